r"""A blur along the last axis: y[i] = sum over lags t = -r..r of k(t) x[i - t], one program for each block of y.

Beyond the ends x counts as 0 (boundary="zero") or goes on from the other end (boundary="wrap").
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

BOUNDARIES = ("zero", "wrap")


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


def blur(x: torch.Tensor, k: torch.Tensor, *, boundary: str = "zero", backend: str = "auto", block: int = 1024) -> torch.Tensor:
    """The blur y = k * x along the last axis, as a GPU kernel.

    x: (..., n) float32 or float64, contiguous; k: (2 r + 1,) of the same dtype and device, lag 0 in the middle.
    boundary: "zero" or "wrap". block: outputs made by one program, a power of two.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns y (..., n), a new tensor. No gradient: for training use convolution.blur.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: the definition of convolution; Triton tutorial 1 for offsets and masks.
    """
    _check(x, k, boundary, block)
    if not uses_triton(backend, x):
        return blur_reference(x, k, boundary=boundary)
    y = torch.empty_like(x)
    grid = (-(-x.numel() // block),)
    launch(blur_kernel, grid, x, k, y, x.numel(), x.shape[-1], k.shape[0] // 2, WRAP=boundary == "wrap", BLOCK=block)
    return y


def _check(x: torch.Tensor, k: torch.Tensor, boundary: str, block: int) -> None:
    check_tensors(FLOATS, x=x, k=k)
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary={boundary!r}: expected one of {BOUNDARIES}")
    if block < 1 or block & (block - 1):
        raise ValueError(f"block={block}: expected a power of two")
    if x.dim() < 1 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (..., n) with nothing empty")
    if k.dim() != 1 or k.shape[0] % 2 == 0:
        raise ValueError(f"k has shape {tuple(k.shape)}: expected one axis of odd length, lag 0 in the middle")


def _case(shape: tuple[int, ...], taps: int, boundary: str) -> Case:
    def make(generator, dtype):
        return dict(x=normal(generator, dtype, *shape), k=normal(generator, dtype, taps), boundary=boundary)

    return Case(f"shape {shape}, {taps} taps, {boundary}", make, tuning=dict(block=16))


def _bench(generator, dtype, device):
    x, k = torch.randn(1 << 10, 1 << 16, generator=generator, dtype=dtype), torch.randn(25, generator=generator, dtype=dtype)
    return dict(x=x.to(device), k=k.to(device))


def _work(inputs: Inputs) -> Work:
    x, k = inputs["x"], inputs["k"]
    return Work(bytes=2 * x.element_size() * x.numel(), flops=2 * x.numel() * len(k))


def _conv1d(inputs: Inputs):
    x, k = inputs["x"][:, None], inputs["k"].flip(0)[None, None]
    return lambda: torch.nn.functional.conv1d(x, k, padding=k.shape[-1] // 2)[:, 0]


def _target(kind: str, wrap: bool) -> Target:
    signature = dict.fromkeys(("x_ptr", "k_ptr", "y_ptr"), f"*{kind}") | dict.fromkeys(("size", "n", "radius"), "i32")
    return Target(blur_kernel, signature, dict(WRAP=wrap, BLOCK=1024))


SHAPES = (((3, 37), 11), ((5,), 3), ((1,), 1), ((64,), 25), ((2, 3, 17), 5), ((4, 33), 1), ((9,), 41))

register(
    Kernel(
        name="blur",
        formula="y[i] = sum_t k(t) x[i - t]",
        launcher=blur,
        reference=blur_reference,
        kernels=(blur_kernel,),
        cases=tuple(_case(shape, taps, boundary) for shape, taps in SHAPES for boundary in BOUNDARIES),
        tolerance={torch.float32: 2e-6, torch.float64: 1e-14},
        scale=lambda inputs, exact: inputs["k"].abs().sum() * inputs["x"].abs().max(),
        targets=(_target("fp32", False), _target("fp32", True), _target("fp64", False)),
        benches=(Bench("1,024 rows of 65,536, 25 taps", _bench, torch.float32, _work, {"torch conv1d": _conv1d}),),
    )
)
