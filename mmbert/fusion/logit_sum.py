"""No fusion: each input says what it has to say by itself, and the tasks add that up."""

from collections.abc import Mapping

from mmbert.contracts import Fusion, Trunk
from mmbert.fusion.late import encode_text
from mmbert.layers.masked import mean_token, rows_with_any_stream
from mmbert.layers.pooling import Pooling, Readout
from mmbert.types import Fused, Tokens


class LogitSum(Fusion):
    """The tasks read the text as the trunk reads it alone; every other input adds the logits of a head of its own.

    The sum of I2M2 without its joint term: an additive baseline, which cannot learn what two
    inputs mean only together (XOR). Under any other fusion ``fusion.logit_sum: true`` adds the same heads, one for the
    text included. A row without text that has a stream gives the tasks zeros to read.

    Args:
        dim: width of the trunk.
        streams: the streams besides the text (see ``Fusion``).
        pooling: how the text's tokens become one vector.

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
