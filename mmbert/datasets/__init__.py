"""The table of data sets that can be prepared by name, one builder a file."""

from mmbert.registry import Registry

DATASETS = Registry(
    "data set",
    {
        "addresses": "mmbert.datasets.addresses:Addresses",
        "hanzi": "mmbert.datasets.hanzi:Hanzi",
        "molecules": "mmbert.datasets.molecules:Molecules",
        "programs": "mmbert.datasets.programs:Programs",
        "stamps": "mmbert.datasets.stamps:Stamps",
        "ucr": "mmbert.datasets.ucr:UCR",
    },
    group="mmbert.datasets",
)
