"""The table of data sources."""

from mmbert.registry import Registry

SOURCES = Registry(
    "source",
    {
        "dataset": "mmbert.data.dataset:DatasetSource",
        "files": "mmbert.data.files:FilesSource",
        "generated": "mmbert.data.generated:GeneratedSource",
        "oracle": "mmbert.data.oracle:OracleSource",
    },
    group="mmbert.sources",
)
