"""No fusion: an additive baseline that sums unimodal logits."""

from collections.abc import Mapping

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import encode_text
from mmbert.layers.masked import mean_token, rows_with_any_stream
from mmbert.layers.pooling import Pooling, Readout
from mmbert.types import Fused, Tokens


class LogitSum(Fusion):
    """Sums unimodal logits: the tasks read the text, and every other input adds the logits of its own head.

    I2M2 without the joint term: an additive baseline, which cannot learn interactions of inputs (XOR). With any other
    fusion ``fusion.logit_sum: true`` adds the same heads and one for the text. The summary of a row without text but
    with a stream is zero.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        pooling: how the text's tokens are pooled to one vector.

    Reference:
        Madaan et al. 2024, "Jointly modeling inter- & intra-modality dependencies for multi-modal learning".
    """

    reads_text_alone = True
    joins = False

    def __init__(self, dim: int, streams: Mapping[str, bool], *, pooling: Pooling = "mean"):
        super().__init__()
        self.readout = Readout(dim, pooling=pooling)

    def forward(self, trunk: Trunk, text: Tokens, streams: Mapping[str, Tokens]) -> Fused:
        read = encode_text(trunk, text, rows_with_any_stream(streams.values(), text))
        return Fused(self.readout(read), {"text": read, **streams}, {"text": mean_token(read)})
