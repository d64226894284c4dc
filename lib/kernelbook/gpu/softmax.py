r"""Row softmax: y[i, j] = exp(x[i, j] - max_j x[i, j]) / sum over j of the same, one program for each row."""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

LONGEST = 1 << 15  # numbers that one program can hold in its registers


def softmax_reference(x: torch.Tensor) -> torch.Tensor:
    """Softmax along the last axis in plain torch.  x: (..., n).  Returns (..., n)."""
    # without the maximum taken off, exp overflows from 89 upwards in float32
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def softmax_kernel(x_ptr, y_ptr, n, BLOCK: tl.constexpr):
    """The Triton kernel: one row of n numbers a program; BLOCK is a power of two, at least n."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    # lanes beyond the row hold -inf: it changes no maximum, and its exponential adds nothing to the sum
    x = tl.load(x_ptr + row * n + j, mask=j < n, other=-float("inf"))
    # e[j] = exp(x[j] - max x)
    e = tl.exp(x - tl.max(x, axis=0))
    # y[j] = e[j] / sum of e
    tl.store(y_ptr + row * n + j, e / tl.sum(e, axis=0), mask=j < n)


def softmax(x: torch.Tensor, *, backend: str = "auto") -> torch.Tensor:
    """Softmax along the last axis as a GPU kernel that reads and writes each number once.

    x: (..., n) float32 or float64, contiguous, nothing empty; n at most 32,768 for Triton (a row is one program).
    backend: "auto" takes Triton if and only if x is on CUDA; "triton" on the CPU needs the interpreter.
    Returns a new tensor of x's shape.  No gradient: for training use torch.softmax.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: Triton tutorial 2.
    """
    check_tensors(FLOATS, x=x)
    if x.dim() < 1 or x.numel() == 0:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (..., n) with nothing empty")
    if not uses_triton(backend, x):
        return softmax_reference(x)
    n = x.shape[-1]
    if n > LONGEST:
        raise ValueError(f"x has rows of {n}: expected at most {LONGEST} with Triton, one row a program")
    y = torch.empty_like(x)
    block = 1 << (n - 1).bit_length()
    launch(softmax_kernel, (x.numel() // n,), x, y, n, BLOCK=block, num_warps=min(16, max(1, block // 512)))
    return y


def _case(*shape: int, shift: float = 0.0) -> Case:
    def make(generator, dtype):
        # a slope in j: a column that is read or written in the wrong place shows
        slope = torch.linspace(shift, shift + 3, shape[-1], dtype=torch.float64)
        return dict(x=(normal(generator, torch.float64, *shape) + slope).to(dtype))

    return Case(f"shape {shape}{f', about {shift:g}' if shift else ''}", make)


def _bench(generator, dtype, device):
    return dict(x=torch.randn(1 << 15, 4096, generator=generator, dtype=dtype).to(device))


register(
    Kernel(
        name="softmax",
        formula="y[i, j] = exp(x[i, j] - max x[i]) / sum",
        launcher=softmax,
        reference=softmax_reference,
        kernels=(softmax_kernel,),
        # about -1000: a lane beyond the row that counts as 0 would be the maximum; about 1000: exp alone overflows
        cases=(_case(3, 5, shift=-1000.0), _case(2, 37, shift=1000.0), _case(5, 1), _case(2, 3, 16), _case(64)),
        tolerance={torch.float32: 5e-7, torch.float64: 1e-15},
        targets=tuple(
            Target(softmax_kernel, dict(x_ptr=t, y_ptr=t, n="i32"), dict(BLOCK=4096), warps=8) for t in ("*fp32", "*fp64")
        ),
        benches=(
            Bench(
                "32,768 rows of 4,096",
                _bench,
                torch.float32,
                lambda inputs: Work(bytes=8 * inputs["x"].numel(), flops=4 * inputs["x"].numel(), special=inputs["x"].numel()),
                peers={"torch": lambda inputs: lambda: torch.softmax(inputs["x"], -1)},
            ),
        ),
    )
)
