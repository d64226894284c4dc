r"""Positive random features: y[i, j] = exp(x[i] . g[j] - |x[i]|^2 / 2) / \sqrt m, one program for each tile of y."""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

import math
from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

DTYPES = (torch.float32, torch.float16)


def positive_features_reference(x: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """The features in plain torch.  x: (n, d), directions: (m, d).  Returns (n, m)."""
    exponent = x @ directions.mT - 0.5 * x.square().sum(1, keepdim=True)
    return exponent.exp() / math.sqrt(len(directions))


def positive_features_kernel(
    x_ptr, g_ptr, y_ptr, N, M, D, scale, BLOCK_N: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_D: tl.constexpr
):
    """The Triton kernel: a BLOCK_N x BLOCK_M tile of features a program, BLOCK_D coordinates at a time; all row by row."""
    # i: points, j: directions
    i = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    j = tl.program_id(1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    k = tl.arange(0, BLOCK_D)
    product = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    square = tl.zeros((BLOCK_N,), tl.float32)
    for start in range(0, D, BLOCK_D):
        left = D - start
        x = tl.load(x_ptr + i[:, None] * D + start + k[None, :], mask=(i[:, None] < N) & (k[None, :] < left), other=0.0)
        g = tl.load(g_ptr + j[None, :] * D + start + k[:, None], mask=(j[None, :] < M) & (k[:, None] < left), other=0.0)
        # x[i] . g[j], and |x[i]|^2 out of the same block of x
        product = tl.dot(x, g, product, input_precision="ieee")
        square += tl.sum(x.to(tl.float32) * x.to(tl.float32), axis=1)
    # y[i, j] = exp(x[i] . g[j] - |x[i]|^2 / 2) / sqrt(m)
    y = tl.exp(product - 0.5 * square[:, None]) * scale
    tl.store(y_ptr + i[:, None] * M + j[None, :], y.to(y_ptr.dtype.element_ty), mask=(i[:, None] < N) & (j[None, :] < M))


class _PositiveFeatures(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: torch.Tensor, directions: torch.Tensor, blocks: tuple[int, int, int]) -> torch.Tensor:
        (n, d), m = x.shape, len(directions)
        y = torch.empty(n, m, dtype=x.dtype, device=x.device)
        tiles: Any = dict(zip(("BLOCK_N", "BLOCK_M", "BLOCK_D"), blocks, strict=True))
        grid = (-(-n // blocks[0]), -(-m // blocks[1]))
        if y.numel():
            launch(positive_features_kernel, grid, x, directions, y, n, m, d, 1 / math.sqrt(m), **tiles, num_warps=4)
        context.save_for_backward(x, directions, y)
        return y

    @staticmethod
    def backward(context: Any, *upstream: torch.Tensor) -> Any:
        x, directions, y = context.saved_tensors
        # y is its own derivative in the exponent
        slope = upstream[0] * y
        grad_x = slope @ directions - slope.sum(1, keepdim=True) * x if context.needs_input_grad[0] else None
        return grad_x, slope.mT @ x if context.needs_input_grad[1] else None, None


def positive_features(
    x: torch.Tensor, directions: torch.Tensor, *, backend: str = "auto", blocks: tuple[int, int, int] = (64, 64, 32)
) -> torch.Tensor:
    """Features of the kernel exp(x . z), all above 0, as a GPU kernel that reads x and directions once for each tile.

    x: (n, d), directions: (m, d) float32 or float16, contiguous; m at least 1; rows of directions N(0, I) for an unbiased kernel.
    blocks: points, directions and coordinates of a tile, powers of two from 16 upwards.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns (n, m) of their dtype, summed in float32; what passes 65,504 is inf in float16.  Gradients in x and directions.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: Choromanski et al. (2021), lemma 1; snnk, its features of the exponential.
    """
    check_tensors(DTYPES, x=x, directions=directions)
    if x.dim() != 2 or directions.dim() != 2 or x.shape[1] != directions.shape[1] or not len(directions):
        found = f"x has shape {tuple(x.shape)}, directions {tuple(directions.shape)}"
        raise ValueError(f"{found}: expected (n, d) and (m, d) with the same d and m at least 1")
    if len(blocks) != 3 or any(s < 16 or s & (s - 1) for s in blocks):
        raise ValueError(f"blocks={blocks!r}: expected three powers of two from 16 upwards")
    if not uses_triton(backend, x):
        return positive_features_reference(x, directions)
    return _PositiveFeatures.apply(x, directions, blocks)


def _case(n: int, d: int, m: int, gradients: tuple[str, ...] = ()) -> Case:
    def make(generator, dtype):
        # exponents of order 1 at every d, so that no feature hides behind another's size
        return dict(x=normal(generator, dtype, n, d) / max(d, 1) ** 0.5, directions=normal(generator, dtype, m, d))

    return Case(f"{n} points, {m} directions, {d} coordinates", make, tuning=dict(blocks=(16, 16, 16)), gradients=gradients)


def _scale(inputs: Inputs, exact: torch.Tensor) -> torch.Tensor:
    """An exponential is as wrong, relatively, as its exponent is absolutely."""
    x, g = inputs["x"], inputs["directions"]
    return exact * (1 + x.abs() @ g.abs().mT + 0.5 * x.square().sum(1, keepdim=True))


def _bench(generator, dtype, device):
    x, g = torch.randn(1 << 16, 64, generator=generator) / 8, torch.randn(1024, 64, generator=generator)
    return dict(x=x.to(dtype).to(device), directions=g.to(dtype).to(device))


def _work(inputs: Inputs) -> Work:
    (n, d), m = inputs["x"].shape, len(inputs["directions"])
    unit = "fp32" if inputs["x"].dtype == torch.float32 else "fp16"
    return Work(bytes=inputs["x"].element_size() * (n * d + m * d + n * m), flops=2 * n * m * d, unit=unit, special=n * m)


def _target(kind: str) -> Target:
    signature = dict(x_ptr=f"*{kind}", g_ptr=f"*{kind}", y_ptr=f"*{kind}", N="i32", M="i32", D="i32", scale="fp32")
    return Target(positive_features_kernel, signature, dict(BLOCK_N=64, BLOCK_M=64, BLOCK_D=32), warps=4, aligned=("N", "M", "D"))


register(
    Kernel(
        name="positive_features",
        formula="y[i, j] = exp(x[i].g[j] - |x[i]|^2 / 2) / sqrt(m)",
        launcher=positive_features,
        reference=positive_features_reference,
        kernels=(positive_features_kernel,),
        cases=(
            _case(19, 37, 23, gradients=("x", "directions")),
            _case(1, 1, 1),
            _case(16, 32, 16),
            _case(33, 5, 17),
            _case(2, 0, 3),
        ),
        tolerance={torch.float32: 1e-6, torch.float16: 2e-3},
        scale=_scale,
        targets=(_target("fp32"), _target("fp16")),
        equivalent={
            "positive_features_kernel: wrong value beyond the end: g = tl.load(g_ptr + j[None, :] * D + start + k[:, None], "
            "mask=(j[None, :] < M) & (k[:, None] < left), other=0.0)": "x is 0 there, and 0 times 1 is 0"
        },
        benches=tuple(
            Bench(
                f"65,536 points, 1,024 directions, 64 coordinates, {name}",
                _bench,
                dtype,
                _work,
                peers={"torch, three operations": lambda inputs: lambda: positive_features_reference(**inputs)},
            )
            for name, dtype in (("float32", torch.float32), ("float16", torch.float16))
        ),
    )
)
