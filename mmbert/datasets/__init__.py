"""The table of data sets that can be prepared by name, one builder a file."""

from mmbert.registry import Registry

DATASETS = Registry(
    "data set",
    {
        "addresses": "mmbert.datasets.addresses:Addresses",
        "molecules": "mmbert.datasets.molecules:Molecules",
        "stamps": "mmbert.datasets.stamps:Stamps",
        "ucr": "mmbert.datasets.ucr:UCR",
    },
    group="mmbert.datasets",
)
