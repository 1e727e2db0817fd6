"""A small pre-norm transformer over masked tokens."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from mmbert.errors import RecipeError
from mmbert.layers.dropout import Dropout
from mmbert.layers.masked import zero_masked


class TransformerLayer(nn.Module):
    """Attention and a feed-forward part, each after a LayerNorm and around a residual. Dropout acts on both branches.

    Reference: Xiong et al. 2020.

    Shape:
        values [batch, length, width], mask [batch, length] -> [batch, length, width]; masked places of the result
        are zero and what they held is not read.

    Args:
        width: of the tokens, a multiple of ``heads``.
        heads: of the attention.
        dropout: the probability that a value of a branch is dropped.
        expansion: how many times wider the feed-forward part is inside.

    Raises:
        ValueError: the width is not a multiple of the heads.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.1, expansion: int = 4):
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, however: {width=}, {heads=}")
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width)
        self.write = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Both parts of the layer, one after the other: [batch, length, width].

        Args:
            values: tensor [batch, length, width].
            mask: bool tensor [batch, length], True where a token is real.
        """
        values = zero_masked(values, mask)
        values = values + self.dropout(self.attend(self.attention_norm(values), mask))
        values = values + self.dropout(self.contract(gelu(self.expand(self.forward_norm(values)))))
        return zero_masked(values, mask)

    def attend(self, values: Tensor, mask: Tensor) -> Tensor:
        """Attention of each token to the real tokens of its row: [batch, length, width].

        Args:
            values: tensor [batch, length, width].
            mask: bool tensor [batch, length], True where a token is real.
        """
        pattern = "batch length (part heads size) -> part batch heads length size"
        query, key, value = rearrange(self.read(values), pattern, part=3, heads=self.heads)
        readable = mask | ~mask.any(1, keepdim=True)  # a row with nothing to read would give NaN
        read = scaled_dot_product_attention(query, key, value, attn_mask=readable[:, None, None, :])
        return self.write(rearrange(read, "batch heads length size -> batch length (heads size)"))


def check_heads(dim: int, heads: int) -> None:
    """Raise ``RecipeError`` where a fusion's ``heads`` do not divide the trunk's width.

    Args:
        dim: the trunk's width.
        heads: of the fusion's attention.

    Raises:
        RecipeError: the width is not a multiple of the heads.
    """
    if dim % heads:
        raise RecipeError(f"fusion.heads must divide the trunk's width of {dim}, however: {heads=}")


def init_xavier(module: nn.Module) -> None:
    """For ``Module.apply``: linear layers start as Xavier uniform, square ones thus keep the variance.

    As ``nn.Linear`` starts, they give a third of it, and a product of two inputs comes out of some layers too weak to
    be learned in reasonable time.

    Reference: Glorot and Bengio 2010.

    Args:
        module: changed in place where it is a linear layer, which must have a bias; any other stays as it is.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def sinusoidal_positions(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed position encodings: [length, width], sines in the first half.

    Reference: Vaswani et al. 2017.

    Args:
        length: how many positions.
        width: of the encoding of a position.
        device: where the encodings are made; None for the default device.
    """
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    rate = 10_000.0 ** -torch.linspace(0, 1, (width + 1) // 2, device=device)
    return torch.cat([(position * rate).sin(), (position * rate).cos()], 1)[:, :width]
