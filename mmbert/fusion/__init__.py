"""The table of fusions, one file each."""

from mmbert.registry import Registry

FUSIONS = Registry(
    "fusion",
    {
        "bottleneck": "mmbert.fusion.bottleneck:Bottleneck",
        "concat": "mmbert.fusion.concat:Concat",
        "cross_attention": "mmbert.fusion.cross_attention:CrossAttention",
        "joint": "mmbert.fusion.joint:Joint",
        "mag": "mmbert.fusion.mag:Mag",
        "perceiver": "mmbert.fusion.perceiver:Perceiver",
    },
    group="mmbert.fusions",
)
