"""Registry of the fusions, one per file."""

from mmbert.registry import Registry

FUSIONS = Registry(
    "fusion",
    {
        "bottleneck": "mmbert.fusion.bottleneck:Bottleneck",
        "concat": "mmbert.fusion.concat:Concat",
        "cross_attention": "mmbert.fusion.cross_attention:CrossAttention",
        "film": "mmbert.fusion.film:Film",
        "gated": "mmbert.fusion.gated:Gated",
        "joint": "mmbert.fusion.joint:Joint",
        "lmf": "mmbert.fusion.lmf:LMF",
        "logit_sum": "mmbert.fusion.logit_sum:LogitSum",
        "mag": "mmbert.fusion.mag:Mag",
        "mean": "mmbert.fusion.mean:Mean",
        "perceiver": "mmbert.fusion.perceiver:Perceiver",
    },
    group="mmbert.fusions",
)
