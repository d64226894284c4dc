r"""ShiftGELU: x times the logistic function of 1.702 x, for rows of integers, by shifts, additions and integer divisions.

With x[i, j] in units of S, i0 = floor(-1 / (1.702 S)), m the largest of 0 and x[i], and ShiftExp as in Shiftmax:
    e = ShiftExp(x - m),  s = (e floor((2^31 - 1) / (e + ShiftExp(-m)))) >> (32 - bits),
    y[i, j] = x[i, j] s[i, j],  in units of S / 2^(bits - 1).
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, register
from kernelbook.gpu.shiftmax import HELPERS, INTEGERS, LARGEST, check_exponent, check_rows, integers, rows_of, shift_exp
from kernelbook.gpu.shiftmax import shift_exp_block as shift_exp_block  # called by the kernel, known to it by this name

if TYPE_CHECKING:
    import triton.language as tl


def shift_gelu_reference(x: torch.Tensor, *, i0: int, n: int = 23, bits: int = 8) -> torch.Tensor:
    """ShiftGELU along the last axis in plain torch, integers only.  x: (..., l).  Returns int32 (..., l)."""
    x = x.int()
    # any m gives the same quotient; one that is at least 0 and at least x keeps both exponents from being positive
    m = x.amax(-1, keepdim=True).clamp_min(0)
    e = shift_exp(x - m, i0, n)
    factor = LARGEST // (e + shift_exp(-m, i0, n))
    return x * ((e * factor) >> (32 - bits))


def shift_gelu_kernel(x_ptr, y_ptr, n, I0: tl.constexpr, N: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr):
    """The Triton kernel: one row of n numbers a program; BLOCK is a power of two, at least n."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + j, mask=j < n, other=0).to(tl.int32)
    # m: the largest of 0 and the row, so that neither exponent is positive
    m = tl.maximum(tl.max(x, axis=0), 0)
    # s[j] = exp(x[j] - m) / (exp(x[j] - m) + exp(-m)); 32 bits hold the product, because e is at most the sum
    e = shift_exp_block(x - m, I0, N)
    s = e * (0x7FFFFFFF // (e + shift_exp_block(-m, I0, N))) >> (32 - BITS)
    tl.store(y_ptr + row * n + j, x * s, mask=j < n)


def shift_gelu(x: torch.Tensor, *, i0: int, n: int = 23, bits: int = 8, backend: str = "auto") -> torch.Tensor:
    """GELU in integers, x times the logistic function of 1.702 x, as a GPU kernel that reads and writes each number once.

    x: (..., l) int8 or int32, |x| < 2^(32 - bits), in units of S, contiguous, nothing empty; l at most 32,768 for Triton.
    i0: floor(-1 / (1.702 S)), see shiftmax.minus_one.
    n: exponentials below 2^-n count as 2^-n, which cuts nothing from n = 1.44 (max x - min x) / -i0 upwards, but rounding the
    integer quotient down takes up to -i0 2^(n - 30) of it: 8 % at i0 = -10 and the paper's n = 23.  -i0 2^n is below 2^30.
    bits: 2 to 16 of the logistic function, sign included.
    backend: "auto" takes Triton if and only if x is on CUDA; "triton" on the CPU needs the interpreter.
    Returns int32 (..., l), in units of S / 2^(bits - 1).  No gradient.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: i-vit, ShiftGELU, with a maximum of at least 0: at a negative one the paper's second exponential would pass 1.
    """
    check_rows(INTEGERS, x=x)
    check_exponent(i0, n, 30)
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits={bits!r}: expected 2 to 16")
    if not uses_triton(backend, x):
        return shift_gelu_reference(x, i0=i0, n=n, bits=bits)
    grid, tile = rows_of("x", x)
    y = torch.empty_like(x, dtype=torch.int32)
    constants: Any = dict(I0=i0, N=n, BITS=bits) | tile
    launch(shift_gelu_kernel, grid, x, y, x.shape[-1], helpers=HELPERS, **constants)
    return y


def _case(what: str, low: int, high: int, dtype: torch.dtype, *shape: int, **options: int) -> Case:
    def make(generator, _):
        return dict(x=integers(generator, low, high, dtype, *shape)) | options

    return Case(f"{what}, {str(dtype).removeprefix('torch.')} {shape}", make)


def _bench(rows: int, length: int):
    def make(generator, dtype, device):
        return dict(x=integers(generator, -128, 127, torch.int8, rows, length).to(device), i0=-20, n=16)

    return make


def _work(inputs: Inputs) -> Work:
    return Work(bytes=5 * inputs["x"].numel())


def _torch(dtype: torch.dtype):
    def prepare(inputs):
        x = inputs["x"].to(dtype) / (-1.702 * inputs["i0"])
        return lambda: torch.nn.functional.gelu(x)

    return prepare


def _target(kind: str) -> Target:
    constants = dict(I0=-20, N=16, BITS=8, BLOCK=4096)
    return Target(shift_gelu_kernel, dict(x_ptr=kind, y_ptr="*i32", n="i32"), constants, helpers=HELPERS, warps=8)


I8, I32 = INTEGERS

register(
    Kernel(
        name="shift_gelu",
        formula="y[i, j] = x[i, j] / (1 + shift_exp(-1.702 x[i, j]))",
        launcher=shift_gelu,
        reference=shift_gelu_reference,
        kernels=(shift_gelu_kernel, *HELPERS),
        cases=(
            _case("all", -128, 127, I8, 3, 37, i0=-19, n=16),
            # below 0, where a lane beyond the row that counts as 1 would be the maximum, and the maximum must not be the row's
            _case("below 0", -9, -1, I8, 5, 3, i0=-5, bits=16),
            _case("wide", -30000, 30000, I32, 2, 5, i0=-10000, n=10, bits=16),
            _case("one", -7, 7, I32, 3, 1, i0=-1, n=20),
        ),
        tolerance={torch.float64: 0.0},  # of the label that the maker is given; all inputs are integers
        targets=(_target("*i8"), _target("*i32")),
        benches=(
            Bench("65,536 rows of 4,096", _bench(1 << 16, 1 << 12), torch.int8, _work, {"torch float16": _torch(torch.float16)}),
            Bench(
                "1,024 rows of 256",
                _bench(1 << 10, 1 << 8),
                torch.int8,
                _work,
                {"torch float32": _torch(torch.float32)},
                ("cpu",),
            ),
        ),
    )
)
