"""Few bits: scales, rounding that gradients pass through, and a guard that finds floating-point numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


def symmetric_scale(x: torch.Tensor, bits: int, axis: int | None = None) -> torch.Tensor:
    """The step S = max|x| / (2^(bits-1) - 1) of a grid that is symmetric about 0.

    x: any shape, floating.  bits: 2 to 16.  axis: the axis that keeps a scale of its own (None: one for all).
    Returns a scalar, or x's shape with 1 in every other axis; where x is all zero the scale is 1.
    Raises ValueError for another number of bits, or an axis that x has not.
    Source: i-vit, section 3 (symmetric uniform quantization).
    """
    top = _top(bits)
    if axis is None:
        largest = x.abs().amax()
    else:
        if not -x.dim() <= axis < x.dim():
            raise ValueError(f"axis={axis}: expected one of the {x.dim()} axes of x")
        largest = x.abs().amax([i for i in range(x.dim()) if i != axis % x.dim()], keepdim=True)
    return torch.where(largest > 0, largest, top) / top


def quantize(x: torch.Tensor, scale: torch.Tensor | float, bits: int) -> torch.Tensor:
    """The codes clip(round(x / S)) between -(2^(bits-1) - 1) and 2^(bits-1) - 1, as int32, halves rounded to even.

    scale: a positive number or a tensor that broadcasts with x.  Raises ValueError for a number of bits not in 2 to 16.
    Source: i-vit, equation 1.
    """
    top = _top(bits)
    return torch.round(x / scale).clamp(-top, top).to(torch.int32)


def straight_through(hard: torch.Tensor, soft: torch.Tensor) -> torch.Tensor:
    """The value of `hard` with the gradient of `soft`: what a derivative takes a rounding for.  Both of one shape.

    Source: Bengio, Leonard and Courville (2013), the straight-through estimator.
    """
    return soft + (hard - soft).detach()


def fake_quantize(x: torch.Tensor, scale: torch.Tensor | float, bits: int) -> torch.Tensor:
    """x rounded to the grid and given back as floating numbers; the gradient passes inside the grid's range, and is 0 outside.

    Arguments and errors as `quantize`.  Source: i-vit, section 3; the straight-through estimator.
    """
    top = _top(bits)
    # the clip is differentiated, the rounding is not
    inside = (x / scale).clamp(-top, top)
    return straight_through(torch.round(inside), inside) * scale


def _top(bits: int) -> int:
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits={bits!r}: expected a whole number from 2 to 16")
    return 2 ** (bits - 1) - 1


class FloatingPointUsed(RuntimeError):
    """A floating-point tensor where integers alone were promised (not a TypeError: tensor operators swallow those)."""


class NoFloat(TorchDispatchMode):
    """Within this block no floating-point tensor may be made or read: the proof that a computation uses integers alone.

    Raises FloatingPointUsed at the first operation that takes or gives one, naming the operation.
    `operations` counts those that passed, so that an empty block is not taken for a proof.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation, and look at every tensor that goes in or comes out."""
        result = func(*args, **(kwargs or {}))
        for tensor in _tensors((args, kwargs, result)):
            if tensor.is_floating_point() or tensor.is_complex():
                raise FloatingPointUsed(f"{func} takes or gives {tensor.dtype}: expected integers alone")
        self.operations += 1
        return result


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in _tensors(v)] if isinstance(value, (list, tuple)) else []
