"""A pre-norm transformer layer over masked tokens, its initialisation and sinusoidal positions."""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from mmbert.errors import RecipeError
from mmbert.layers.dropout import Dropout
from mmbert.layers.masked import zero_masked


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward, each with a residual connection and dropout on its branch.

    Reference: Xiong et al. 2020.

    Shape:
        values [batch, length, width], mask [batch, length] -> [batch, length, width]; masked positions of the result
        are zero, and masked values are not read.

    Args:
        width: of the tokens, a multiple of ``heads``.
        heads: of the attention.
        dropout: the probability that a value of a branch is dropped.
        expansion: width of the feed-forward layer as a multiple of ``width``.

    Raises:
        ValueError: the width is not a multiple of the heads.
    """

    def __init__(self, width: int, heads: int, *, dropout: float = 0.1, expansion: int = 4):
        super().__init__()
        if width % heads:
            raise ValueError(f"width must be a multiple of heads, got {width=}, {heads=}")
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.read = nn.Linear(width, 3 * width)
        self.write = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, expansion * width)
        self.contract = nn.Linear(expansion * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        """Attention, then feed-forward: [batch, length, width].

        Args:
            values: tensor [batch, length, width].
            mask: bool tensor [batch, length], True where a token is real.
        """
        values = zero_masked(values, mask)
        values = values + self.dropout(self.attend(self.attention_norm(values), mask))
        values = values + self.dropout(self.contract(gelu(self.expand(self.forward_norm(values)))))
        return zero_masked(values, mask)

    def attend(self, values: Tensor, mask: Tensor) -> Tensor:
        """Self-attention over the real tokens of each row: [batch, length, width].

        Args:
            values: tensor [batch, length, width].
            mask: bool tensor [batch, length], True where a token is real.
        """
        pattern = "batch length (part heads size) -> part batch heads length size"
        query, key, value = rearrange(self.read(values), pattern, part=3, heads=self.heads)
        readable = mask | ~mask.any(1, keepdim=True)  # a softmax without a key gives NaN
        read = scaled_dot_product_attention(query, key, value, attn_mask=readable[:, None, None, :])
        return self.write(rearrange(read, "batch heads length size -> batch length (heads size)"))


def check_heads(dim: int, heads: int) -> None:
    """Check that a fusion's ``heads`` divide the trunk's width.

    Args:
        dim: the trunk's width.
        heads: attention heads of the fusion.

    Raises:
        RecipeError: the width is not a multiple of the heads.
    """
    if dim % heads:
        raise RecipeError(f"fusion.heads must divide the trunk's width of {dim}, however: {heads=}")


def init_xavier(module: nn.Module) -> None:
    """Initialise linear layers as Xavier uniform, so that square ones preserve the variance; for ``Module.apply``.

    With the default of ``nn.Linear`` each layer scales the variance to a third: after some layers a product of two
    inputs is too small to be learned in reasonable time.

    Reference: Glorot and Bengio 2010.

    Args:
        module: changed in place where it is a linear layer, which must have a bias; other modules are left unchanged.
    """
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)


def sinusoidal_positions(length: int, width: int, device: torch.device | None = None) -> Tensor:
    """Fixed position encodings: [length, width], sines in the first half.

    Reference: Vaswani et al. 2017.

    Args:
        length: number of positions.
        width: width of an encoding.
        device: device of the result; None for the default device.
    """
    position = torch.arange(length, device=device, dtype=torch.float32)[:, None]
    rate = 10_000.0 ** -torch.linspace(0, 1, (width + 1) // 2, device=device)
    return torch.cat([(position * rate).sin(), (position * rate).cos()], 1)[:, :width]
