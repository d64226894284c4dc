r"""A blur along the last axis: y[i] = sum over lags t = -r..r of k(t) x[i - t], one program for each block of y.

Beyond the ends x counts as 0 (boundary="zero") or goes on from the other end (boundary="wrap").
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

import functools
import os
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import triton.language as tl

BOUNDARIES = ("zero", "wrap")
BACKENDS = ("auto", "triton", "reference")


def blur_reference(x: torch.Tensor, k: torch.Tensor, *, boundary: str = "zero") -> torch.Tensor:
    """The blur in plain torch: one shifted copy of x for each lag, weighted and summed.

    x: (..., n), k: (2 r + 1,) with lag 0 in the middle. Returns (..., n).
    Source: the definition of convolution.
    """
    radius = k.shape[0] // 2
    y = torch.zeros_like(x)
    for lag in range(-radius, radius + 1):
        y += k[lag + radius] * _shifted(x, lag, boundary)
    return y


def _shifted(x: torch.Tensor, lag: int, boundary: str) -> torch.Tensor:
    """x[i - lag] at every i."""
    i = torch.arange(x.shape[-1], device=x.device) - lag
    moved = x[..., i % x.shape[-1]]
    return moved if boundary == "wrap" else torch.where((i >= 0) & (i < x.shape[-1]), moved, 0)


def blur_kernel(x_ptr, k_ptr, y_ptr, size, n, radius, WRAP: tl.constexpr, BLOCK: tl.constexpr):
    """The Triton kernel: x, y with `size` samples in rows of n; k with 2 radius + 1 weights; BLOCK outputs a program."""
    # p: the outputs that this program makes; i: their places in a row of n
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    i = (p % n).to(tl.int32)
    # y[i] = sum over lags of k(lag) x[i - lag]
    y = tl.zeros((BLOCK,), y_ptr.dtype.element_ty)
    for lag in range(-radius, radius + 1):
        j = i - lag
        if WRAP:
            # twice, because % keeps the sign of j as in C
            j = (j % n + n) % n
        inside = (p < size) & (j >= 0) & (j < n)
        x = tl.load(x_ptr + (p - i + j), mask=inside, other=0.0)
        y += tl.load(k_ptr + (lag + radius)) * x
    # the last block may reach beyond the signal: masked lanes write nothing
    tl.store(y_ptr + p, y, mask=p < size)


@functools.cache
def jitted() -> Any:
    """The kernel made ready by Triton, which is imported here, on first use: it exists for Linux only."""
    global tl
    try:
        import triton
        import triton.language as tl
    except ImportError as missing:
        raise RuntimeError(
            "backend='triton' needs Triton, which exists for Linux only; use backend='reference' on this machine"
        ) from missing
    return triton.jit(blur_kernel)


def blur(x: torch.Tensor, k: torch.Tensor, *, boundary: str = "zero", backend: str = "auto", block: int = 1024) -> torch.Tensor:
    """The blur y = k * x along the last axis, as a GPU kernel.

    x: (..., n) float32 or float64, contiguous; k: (2 r + 1,) of the same dtype and device, lag 0 in the middle.
    boundary: "zero" or "wrap". block: outputs made by one program, a power of two.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns y (..., n), a new tensor. No gradient: for training use convolution.blur.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: the definition of convolution; Triton tutorial 1 for offsets and masks.
    """
    _check(x, k, boundary, backend, block)
    if backend == "reference" or (backend == "auto" and not x.is_cuda):
        return blur_reference(x, k, boundary=boundary)
    _check_runnable(x)
    y = torch.empty_like(x)
    programs = -(-x.numel() // block)
    with torch.cuda.device_of(x):  # Triton launches on the current device, which need not be that of x
        jitted()[(programs,)](x, k, y, x.numel(), x.shape[-1], k.shape[0] // 2, WRAP=boundary == "wrap", BLOCK=block)
    return y


def _check(x: torch.Tensor, k: torch.Tensor, boundary: str, backend: str, block: int) -> None:
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary={boundary!r}: expected one of {BOUNDARIES}")
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected one of {BACKENDS}")
    if block < 1 or block & (block - 1):
        raise ValueError(f"block={block}: expected a power of two")
    if x.dim() < 1 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (..., n) with nothing empty")
    if k.dim() != 1 or k.shape[0] % 2 == 0:
        raise ValueError(f"k has shape {tuple(k.shape)}: expected one axis of odd length, lag 0 in the middle")
    _check_pair(x, k)


def _check_pair(x: torch.Tensor, k: torch.Tensor) -> None:
    if x.dtype not in (torch.float32, torch.float64) or k.dtype != x.dtype:
        raise ValueError(f"x and k have dtypes {x.dtype} and {k.dtype}: expected both float32 or both float64")
    if x.device != k.device:
        raise ValueError(f"x is on {x.device} and k on {k.device}: expected one device")
    for name, tensor in (("x", x), ("k", k)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name} has strides {tensor.stride()}: expected contiguous memory, call .contiguous() first")


def _check_runnable(x: torch.Tensor) -> None:
    if not x.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"backend='triton' with x on {x.device}: expected CUDA tensors, "
            "or TRITON_INTERPRET=1 in the environment before Triton is first imported"
        )
