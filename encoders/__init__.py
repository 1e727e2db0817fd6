"""Registry of the encoders. One file per modality: its processor, then its encoders."""

from mmbert.registry import Registry

ENCODERS = Registry(
    "encoder",
    {
        "audio": "encoders.audio:AudioEncoder",
        "graph": "encoders.graph:GraphEncoder",
        "series": "encoders.series:SeriesEncoder",
        "table": "encoders.table:TableEncoder",
        "timm": "encoders.image:TimmEncoder",
        "vit": "encoders.image:ViTEncoder",
    },
    group="mmbert.encoders",
)
