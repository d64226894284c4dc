"""Vector addition: z[i] = x[i] + y[i], one program for each block of i. The first kernel anyone writes."""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl


def add_reference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The sum in plain torch.  x, y: the same shape.  Returns that shape."""
    return x + y


def add_kernel(x_ptr, y_ptr, z_ptr, size, BLOCK: tl.constexpr):
    """The Triton kernel: BLOCK sums a program."""
    # i: the elements of this program; the last block may reach beyond the end, where the mask is false
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < size
    # z[i] = x[i] + y[i]
    z = tl.load(x_ptr + i, mask=inside) + tl.load(y_ptr + i, mask=inside)
    tl.store(z_ptr + i, z, mask=inside)


def add(x: torch.Tensor, y: torch.Tensor, *, backend: str = "auto", block: int = 1024) -> torch.Tensor:
    """x + y as a GPU kernel.

    x, y: the same shape, float32 or float64, contiguous, on one device.  block: elements a program, a power of two.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns a new tensor.  No gradient.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: Triton tutorial 1.
    """
    check_tensors(FLOATS, x=x, y=y)
    if x.shape != y.shape:
        raise ValueError(f"y has shape {tuple(y.shape)}: expected {tuple(x.shape)}, as x")
    if block < 1 or block & (block - 1):
        raise ValueError(f"block={block}: expected a power of two")
    if not uses_triton(backend, x):
        return add_reference(x, y)
    z = torch.empty_like(x)
    if x.numel():
        launch(add_kernel, (-(-x.numel() // block),), x, y, z, x.numel(), BLOCK=block)
    return z


def _case(*shape: int) -> Case:
    def make(generator, dtype):
        return dict(x=normal(generator, dtype, *shape), y=normal(generator, dtype, *shape))

    return Case(f"shape {shape}", make, tuning=dict(block=16))


def _bench(generator, dtype, device):
    x, y = torch.randn(2, 1 << 27, generator=generator, dtype=dtype).to(device)
    return dict(x=x, y=y)


def _target(dtype: str) -> Target:
    signature = dict(x_ptr=f"*{dtype}", y_ptr=f"*{dtype}", z_ptr=f"*{dtype}", size="i32")
    return Target(add_kernel, signature, dict(BLOCK=1024))


register(
    Kernel(
        name="add",
        formula="z[i] = x[i] + y[i]",
        launcher=add,
        reference=add_reference,
        kernels=(add_kernel,),
        cases=(_case(37), _case(1), _case(64), _case(3, 11)),
        tolerance={torch.float32: 2e-7, torch.float64: 4e-16},
        targets=(_target("fp32"), _target("fp64")),
        benches=(
            Bench(
                "2^27 numbers",
                _bench,
                torch.float32,
                lambda inputs: Work(bytes=12 * inputs["x"].numel(), flops=inputs["x"].numel()),
                peers={"torch": lambda inputs: lambda: inputs["x"] + inputs["y"]},
            ),
        ),
    )
)
