"""The table of fusions, one file each."""

from mmbert.registry import Registry

FUSIONS = Registry(
    "fusion",
    {
        "concat": "mmbert.fusion.concat:Concat",
        "cross_attention": "mmbert.fusion.cross_attention:CrossAttention",
        "joint": "mmbert.fusion.joint:Joint",
    },
    group="mmbert.fusions",
)
