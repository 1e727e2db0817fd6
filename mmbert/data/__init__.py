"""The table of data sources."""

from mmbert.registry import Registry

SOURCES = Registry(
    "source",
    {
        "dataset": "mmbert.data.sources.dataset:DatasetSource",
        "files": "mmbert.data.sources.files:FilesSource",
        "generated": "mmbert.data.sources.generated:GeneratedSource",
        "oracle": "mmbert.data.sources.oracle:OracleSource",
    },
    group="mmbert.sources",
)
