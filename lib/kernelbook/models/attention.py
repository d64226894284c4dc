"""A small vision transformer of patches whose attention, MLPs and norms can be exchanged."""

import math
from collections.abc import Callable

import torch
from torch import nn

from kernelbook.models.basic import initialize


class Attention(nn.Module):
    """Softmax attention of `heads` heads: (n, tokens, width) -> (n, tokens, width).

    Its linear layers are query, key, value and out.
    Raises ValueError if heads does not divide width.
    Source: Vaswani et al. (2017), section 3.2.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads!r}: expected a divisor of the width, {width}")
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(n, tokens, width) -> (n, heads, tokens, width / heads)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """(n, heads, tokens, width / heads) -> (n, tokens, width)."""
        return x.transpose(1, 2).flatten(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
        weights = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
        return self.out(self.join(weights @ v))


class FeedForward(nn.Module):
    """Two linear layers, up and down, with a GELU between: (..., width) -> (..., width), 2 width inside."""

    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class Block(nn.Module):
    """One layer of a transformer with the norm before: x + attention(norm1(x)), then x + mlp(norm2(x))."""

    def __init__(self, attention: nn.Module, mlp: nn.Module, norm1: nn.Module, norm2: nn.Module):
        super().__init__()
        self.attention, self.mlp, self.norm1, self.norm2 = attention, mlp, norm1, norm2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchViT(nn.Module):
    """Vision transformer of patches: images (n, channels, size, size), or (n, size, size), -> logits (n, classes).

    Patches are embedded by one linear layer, learned positions are added, `blocks` follow, the head reads the mean token.
    generator: draws the weights ("lecun" for linear layers, see `initialize`, and N(0, 0.02^2) for positions).
    attention: (width, heads) -> module on (n, tokens, width).  mlp and norm: width -> module.  What they draw themselves is
    drawn again where it is a linear layer or a convolution.
    Raises ValueError if patch does not divide size, or heads the width (of softmax attention).
    Source: Dosovitskiy et al. (2021), section 3.1, with the mean token for the class token.
    """

    def __init__(
        self,
        generator: torch.Generator,
        *,
        size: int = 8,
        patch: int = 2,
        channels: int = 1,
        width: int = 32,
        depth: int = 4,
        heads: int = 4,
        classes: int = 10,
        attention: Callable[[int, int], nn.Module] = Attention,
        mlp: Callable[[int], nn.Module] = FeedForward,
        norm: Callable[[int], nn.Module] = nn.LayerNorm,
    ):
        super().__init__()
        if patch < 1 or size % patch:
            raise ValueError(f"patch={patch!r}: expected a divisor of the size, {size}")
        self.patch = patch
        self.embed = nn.Linear(channels * patch**2, width)
        self.positions = nn.Parameter(torch.empty((size // patch) ** 2, width))
        self.blocks = nn.ModuleList(Block(attention(width, heads), mlp(width), norm(width), norm(width)) for _ in range(depth))
        self.norm, self.head = norm(width), nn.Linear(width, classes)
        initialize(self, "lecun", generator)
        nn.init.normal_(self.positions, std=0.02, generator=generator)

    def tokens(self, X: torch.Tensor) -> torch.Tensor:
        """Images to embedded patches, (n, tokens, width), row by row, positions added."""
        X = X.unsqueeze(1) if X.dim() == 3 else X
        patches = nn.functional.unfold(X, self.patch, stride=self.patch).mT
        return self.embed(patches) + self.positions

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        x = self.tokens(X)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))
