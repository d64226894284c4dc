"""Small networks for digits and signals, with named initializations drawn from an explicit generator."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils import skip_init

INITIALIZATIONS = ("he", "lecun", "torch")


def initialize(model: nn.Module, init: str, generator: torch.Generator) -> None:
    """Draw the weights and biases of every linear and convolution layer of model, in the order of its modules.

    init: "he" is N(0, 2 / fan-in) with biases 0, "lecun" is N(0, 1 / fan-in) with biases 0, "torch" is what the layers of
    torch do on their own, U(-1, 1) / sqrt(fan-in) for weights and biases.
    Raises ValueError for another name.
    Source: He et al. (2015) and LeCun et al. (1998), both for the forward pass.
    """
    if init not in INITIALIZATIONS:
        raise ValueError(f"init={init!r}: expected {', '.join(map(repr, INITIALIZATIONS))}")
    layers = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d))]
    with torch.no_grad():
        for layer in layers:
            fan_in = layer.weight[0].numel()
            if init == "torch":
                layer.weight.uniform_(-1, 1, generator=generator).div_(math.sqrt(fan_in))
            else:
                layer.weight.normal_(generator=generator).mul_(math.sqrt((2 if init == "he" else 1) / fan_in))
            if layer.bias is not None and init == "torch":
                layer.bias.uniform_(-1, 1, generator=generator).div_(math.sqrt(fan_in))
            elif layer.bias is not None:
                layer.bias.zero_()


def _counts(values: Sequence[int], name: str, least: int = 1) -> list[int]:
    """The values as a list, checked: at least `least` positive whole numbers."""
    found = list(values)
    if len(found) < least or any(not isinstance(v, int) or isinstance(v, bool) or v < 1 for v in found):
        raise ValueError(f"{name}={values!r}: expected {least} or more positive whole numbers")
    return found


class _Named(nn.Sequential):
    """A sequence of named modules whose slices are plain sequences."""

    def __getitem__(self, place: Any) -> Any:
        return nn.Sequential(*list(self)[place]) if isinstance(place, slice) else super().__getitem__(place)


class MLP(_Named):
    """Fully connected network: linear1, relu1, ..., and a last linear layer without ReLU.  (n, ...) -> (n, sizes[-1]).

    sizes: inputs, hidden layers, outputs; inputs of any shape are flattened.  generator: draws the weights.  init: see
    `initialize`.  dropout: share of every hidden layer set to 0 in training (`fit` makes it follow the training generator).
    Raises ValueError for fewer than two sizes, a size below 1, a dropout outside [0, 1), an unknown init.
    """

    def __init__(self, sizes: Sequence[int], generator: torch.Generator, *, init: str = "he", dropout: float = 0.0):
        widths = _counts(sizes, "sizes", least=2)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout={dropout!r}: expected a share from 0 up to, but not including, 1")
        modules: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
        for i, (m, n) in enumerate(pairwise(widths), 1):
            modules[f"linear{i}"] = skip_init(nn.Linear, m, n)
            if i < len(widths) - 1:
                modules[f"relu{i}"] = nn.ReLU()
                if dropout:
                    modules[f"dropout{i}"] = nn.Dropout(dropout)
        super().__init__(modules)
        initialize(self, init, generator)


def _head(channels: int, size: int | None, hidden: int, classes: int) -> OrderedDict[str, nn.Module]:
    """From feature maps to logits: the mean over positions, or all positions of size x size, then one or two layers."""
    modules: OrderedDict[str, nn.Module] = OrderedDict()
    if size is None:
        modules["average"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    inputs = channels * (size or 1) ** 2
    if hidden:
        modules["hidden"], modules["hidden_relu"] = skip_init(nn.Linear, inputs, hidden), nn.ReLU()
    modules["linear"] = skip_init(nn.Linear, hidden or inputs, classes)
    return modules


def _pooled(size: int | None, pools: int) -> int | None:
    """Pixels a side that `pools` 2 x 2 poolings leave of `size`."""
    if size is not None and (not isinstance(size, int) or size >> pools < 1):
        raise ValueError(f"size={size!r}: expected None, or at least {2**pools} pixels for {pools} poolings")
    return None if size is None else size >> pools


class _ImageNetwork(_Named):
    """A sequence that takes grey images without a channel axis, too."""

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """X: (n, channels, h, w), or (n, h, w) for one channel; to logits (n, classes)."""
        return super().forward(X.unsqueeze(1) if X.dim() == 3 else X)


class SmallCNN(_ImageNetwork):
    """Convolutions conv1, norm1, relu1, pool1, conv2, ..., and a linear head.  (n, h, w) or (n, c, h, w) -> (n, classes).

    channels: outputs of each convolution.  generator: draws the weights.  kernel_size: odd, padded with zeros to keep the
    size.  pools: the first so many convolutions are followed by 2 x 2 max-pooling (default: all but the last).
    norm: batch normalization after each convolution.  size: pixels a side of the images, for a head that sees every
    position; None for one that sees the mean over positions, at any size.  hidden: units of a hidden layer in the head,
    read as "hidden_relu"; 0 for none.  init: see `initialize`.
    Raises ValueError for counts below 1, an even kernel, more pools than convolutions, images too small, an unknown init.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        generator: torch.Generator,
        *,
        in_channels: int = 1,
        kernel_size: int = 3,
        pools: int | None = None,
        norm: bool = True,
        size: int | None = None,
        hidden: int = 0,
        init: str = "he",
    ):
        widths = [*_counts([in_channels], "in_channels"), *_counts(channels, "channels")]
        _counts([classes], "classes")
        pools = len(widths) - 2 if pools is None else pools
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size!r}: expected an odd number")
        if not 0 <= pools < len(widths):
            raise ValueError(f"pools={pools!r}: expected 0 to {len(widths) - 1}, the number of convolutions")
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for i, (m, n) in enumerate(pairwise(widths), 1):
            modules[f"conv{i}"] = skip_init(nn.Conv2d, m, n, kernel_size, padding=kernel_size // 2, bias=not norm)
            if norm:
                modules[f"norm{i}"] = nn.BatchNorm2d(n)
            modules[f"relu{i}"] = nn.ReLU()
            if i <= pools:
                modules[f"pool{i}"] = nn.MaxPool2d(2)
        super().__init__(modules | _head(widths[-1], _pooled(size, pools), hidden, classes))
        initialize(self, init, generator)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalization, and the input added before the last ReLU where skip is true.

    New channels of the skipped input are zeros, so that the skip has no weights.  Modules: conv1, norm1, relu1, conv2,
    norm2, relu2.
    """

    def __init__(self, inputs: int, outputs: int, skip: bool):
        super().__init__()
        self.inputs, self.outputs, self.skip = inputs, outputs, skip
        self.conv1 = skip_init(nn.Conv2d, inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = skip_init(nn.Conv2d, outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        """(n, inputs, h, w) to (n, outputs, h, w)."""
        first = self.relu1(self.norm1(self.conv1(X)))
        second = self.norm2(self.conv2(first))
        if self.skip:
            kept = min(self.inputs, self.outputs)
            second = second + nn.functional.pad(X[:, :kept], (0, 0, 0, 0, 0, self.outputs - kept))
        return self.relu2(second)


class SmallResNet(_ImageNetwork):
    """Stages of residual blocks, each stage followed by 2 x 2 max-pooling, and a linear head: block1, pool1, block2, ...

    channels: one entry per stage.  blocks: residual blocks per stage, of two convolutions each.  skip=False leaves the
    additions out and everything else, the initial weights too, as it was.  Other arguments and errors as for `SmallCNN`.
    """

    def __init__(
        self,
        channels: Sequence[int],
        classes: int,
        generator: torch.Generator,
        *,
        blocks: int = 1,
        skip: bool = True,
        in_channels: int = 1,
        size: int | None = None,
        hidden: int = 0,
        init: str = "he",
    ):
        widths = [*_counts([in_channels], "in_channels"), *_counts(channels, "channels")]
        _counts([classes, blocks], "classes, blocks")
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, (m, n) in enumerate(pairwise(widths), 1):
            for b in range(blocks):
                modules[f"block{(stage - 1) * blocks + b + 1}"] = ResidualBlock(m if b == 0 else n, n, skip)
            modules[f"pool{stage}"] = nn.MaxPool2d(2)
        super().__init__(modules | _head(widths[-1], _pooled(size, len(widths) - 1), hidden, classes))
        initialize(self, init, generator)
