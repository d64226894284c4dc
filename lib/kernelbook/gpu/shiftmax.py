r"""Shiftmax: softmax of rows of integers, by shifts, additions, one integer division a row and one product an entry.

With scores x[i, j] in units of S and i0 = floor(-1 / S), the integer that stands for -1:
    p = x - max x,  p <- p + (p >> 1) - (p >> 4),  q = floor(p / i0),  e = (((p - q i0) >> 1) - i0) << (n - q),
    y[i, j] = (e[i, j] floor((2^31 - 1) / sum over j of e[i, j])) >> (32 - bits),  in units of 2^-(bits - 1).
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, register

if TYPE_CHECKING:
    import triton.language as tl

INTEGERS = (torch.int8, torch.int32)
LARGEST = (1 << 31) - 1
LONGEST = 1 << 15  # numbers that one program can hold in its registers


def minus_one(inverse_scale: int | Fraction | float) -> int:
    """i0 = floor(-1 / S), the integer that stands for -1 in units of S: found once, offline.

    inverse_scale: 1 / S, above 0.  Give an int or a Fraction where there is one, such as Fraction(1000 * 32, 1702) for units of
    1.702 / 32: -1 / (1 / m) in floats lies just below -m for 67 of the m from 16 to 1024, and its floor is -m - 1.
    Where 1 / S is no integer, ShiftExp's exponent is off by the factor S ceil(1 / S).
    Raises ValueError for an inverse scale that is not positive and finite.
    Source: i-vit, ShiftExp.
    """
    if not 0 < inverse_scale < math.inf:
        raise ValueError(f"inverse_scale={inverse_scale}: expected a number above 0, 1 / S")
    return math.floor(-inverse_scale)


def shift_exp(x: torch.Tensor, i0: int, n: int = 15) -> torch.Tensor:
    """exp of integers from 0 down, by shifts: 2^f is taken as 1 + f / 2 between powers of two, log2(e) as 1.4375.

    x: int32 or int64, -2^30 <= x <= 0, in units of S; i0: floor(-1 / S), see minus_one; n: what is below 2^-n counts as 2^-n.
    Returns the dtype of x, in units of S / 2^n: 0 < e <= -i0 2^n.
    Raises ValueError where that would not fit 31 bits.
    Source: i-vit, ShiftExp, with >> and // as they round down.
    """
    check_exponent(i0, n, 31)
    p = (x + (x >> 1) - (x >> 4)).clamp_min(n * i0)
    # p = q i0 + r with i0 < r <= 0, so that exp(x S) is about 2^-q 2^(-r / i0), and (r / 2 - i0) S is about 2^(-r / i0)
    q = p // i0
    r = p - q * i0
    return ((r >> 1) - i0) << (n - q)


def check_exponent(i0: int, n: int, bits: int) -> None:
    """Raises ValueError unless i0 < 0 < n and the largest exponential, -i0 2^n, has at most `bits` bits."""
    if not isinstance(n, int) or not 1 <= n <= 30:
        raise ValueError(f"n={n!r}: expected a whole number from 1 to 30")
    if not isinstance(i0, int) or not -i0 << n < 1 << bits or i0 >= 0:
        raise ValueError(f"i0={i0!r} with n={n}: expected a whole number from {-(((1 << bits) - 1) >> n)} to -1, floor(-1 / S)")


def shiftmax_reference(scores: torch.Tensor, *, i0: int, n: int = 15, bits: int = 8) -> torch.Tensor:
    """Shiftmax along the last axis in plain torch, integers only.  scores: (..., l).  Returns (..., l)."""
    x = scores.int()
    e = shift_exp(x - x.amax(-1, keepdim=True), i0, n)
    total = e.sum(-1, keepdim=True, dtype=torch.int64).clamp_max(LARGEST)
    # one division a row; e <= total, so that the product stays below 2^31
    factor = (LARGEST // total).int()
    return ((e * factor) >> (32 - bits)).to(_dtype(bits))


def _dtype(bits: int) -> torch.dtype:
    return torch.uint8 if bits <= 8 else torch.int16


def shift_exp_block(x, I0: tl.constexpr, N: tl.constexpr):
    """shift_exp of a block, in the kernel.  The division by a constant becomes a product."""
    p = tl.maximum(x + (x >> 1) - (x >> 4), N * I0)
    # // rounds toward 0 here, which is down: p and I0 are both negative, or p is 0
    q = p // I0
    return (((p - q * I0) >> 1) - I0) << (N - q)


HELPERS = (shift_exp_block,)  # as plain functions: at the first launch the name above comes to stand for the compiled one


def shiftmax_kernel(
    x_ptr, y_ptr, n, LEAST: tl.constexpr, I0: tl.constexpr, N: tl.constexpr, BITS: tl.constexpr, BLOCK: tl.constexpr
):
    """The Triton kernel: one row of n scores, none below LEAST, a program; BLOCK is a power of two, at least n."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + j, mask=j < n, other=LEAST).to(tl.int32)
    # e[j] = exp(x[j] - max x); lanes beyond the row must not count in the sum
    e = tl.where(j < n, shift_exp_block(x - tl.max(x, axis=0), I0, N), 0)
    total = tl.minimum(tl.sum(e.to(tl.int64), axis=0), 0x7FFFFFFF).to(tl.int32)
    # y[j] = e[j] / sum of e; 32 bits hold the product, because e[j] <= total
    y = e * (0x7FFFFFFF // total) >> (32 - BITS)
    tl.store(y_ptr + row * n + j, y.to(y_ptr.dtype.element_ty), mask=j < n)


def shiftmax(scores: torch.Tensor, *, i0: int, n: int = 15, bits: int = 8, backend: str = "auto") -> torch.Tensor:
    """Softmax along the last axis in integers, as a GPU kernel that reads and writes each number once.

    scores: (..., l) int8 or int32, |scores| < 2^29, in units of S, contiguous, nothing empty; l at most 32,768 for Triton.
    i0: floor(-1 / S), see minus_one; n: exponentials below 2^-n count as 2^-n.  Sums above 2^31 - 1 count as that.
    bits: 2 to 16 of the output, sign included.
    backend: "auto" takes Triton if and only if scores is on CUDA; "triton" on the CPU needs the interpreter.
    Returns (..., l), in units of 2^-(bits - 1) and below 2^(bits - 1): uint8 up to 8 bits (which .view(torch.int8) turns into an
    int8 operand of int8_matmul), int16 above.  No gradient.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: i-vit, Shiftmax.
    """
    check_rows(INTEGERS, scores=scores)
    check_exponent(i0, n, 31)
    if not isinstance(bits, int) or not 2 <= bits <= 16:
        raise ValueError(f"bits={bits!r}: expected 2 to 16")
    if not uses_triton(backend, scores):
        return shiftmax_reference(scores, i0=i0, n=n, bits=bits)
    grid, tile = rows_of("scores", scores)
    y = torch.empty_like(scores, dtype=_dtype(bits))
    least = -128 if scores.dtype == torch.int8 else -(1 << 29)
    constants: Any = dict(LEAST=least, I0=i0, N=n, BITS=bits) | tile
    launch(shiftmax_kernel, grid, scores, y, scores.shape[-1], helpers=HELPERS, **constants)
    return y


def check_rows(dtypes: tuple[torch.dtype, ...], **tensor: torch.Tensor) -> None:
    """Raises ValueError unless the one tensor named is (..., l), contiguous, nothing empty, of one of the dtypes."""
    check_tensors(dtypes, **tensor)
    ((name, x),) = tensor.items()
    if x.dim() < 1 or x.numel() == 0:
        raise ValueError(f"{name} has shape {tuple(x.shape)}: expected (..., l) with nothing empty")


def rows_of(name: str, x: torch.Tensor) -> tuple[tuple[int], dict[str, int]]:
    """The grid and the tile of a kernel that takes a row a program.  Raises ValueError for a row that is too long."""
    n = x.shape[-1]
    if n > LONGEST:
        raise ValueError(f"{name} has rows of {n}: expected at most {LONGEST} with Triton, one row a program")
    block = 1 << (n - 1).bit_length()
    return (x.numel() // n,), dict(BLOCK=block, num_warps=min(16, max(1, block // 512)))


def integers(generator: torch.Generator, low: int, high: int, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Integers from low to high."""
    return torch.randint(low, high + 1, shape, generator=generator).to(dtype)


def _case(what: str, low: int, high: int, dtype: torch.dtype, *shape: int, **options: int) -> Case:
    def make(generator, _):
        return dict(scores=integers(generator, low, high, dtype, *shape)) | options

    return Case(f"{what}, {str(dtype).removeprefix('torch.')} {shape}", make)


def _bench(rows: int, length: int, bits: int):
    def make(generator, dtype, device):
        return dict(scores=integers(generator, -128, 127, torch.int8, rows, length).to(device), i0=-32, bits=bits)

    return make


def _work(inputs: Inputs) -> Work:
    x = inputs["scores"]
    return Work(bytes=(2 if inputs["bits"] <= 8 else 3) * x.numel())


def _torch(dtype: torch.dtype):
    def prepare(inputs):
        x = inputs["scores"].to(dtype) / -inputs["i0"]
        return lambda: torch.softmax(x, -1)

    return prepare


def _target(kind: str, out: str, least: int, bits: int) -> Target:
    constants = dict(LEAST=least, I0=-32, N=15, BITS=bits, BLOCK=4096)
    return Target(shiftmax_kernel, dict(x_ptr=kind, y_ptr=out, n="i32"), constants, helpers=HELPERS, warps=8)


I8, I32 = INTEGERS

register(
    Kernel(
        name="shiftmax",
        formula="y[i, j] = shift_exp(x[i, j] - max x[i]) / sum",
        launcher=shiftmax,
        reference=shiftmax_reference,
        kernels=(shiftmax_kernel, *HELPERS),
        cases=(
            # all far below 0: a lane beyond the row that counts as 0 would be the maximum
            _case("below -100", -120, -100, I8, 3, 5, i0=-24, bits=16),
            _case("all scores", -128, 127, I8, 2, 37, i0=-24),
            _case("sums", -90000, 90000, I32, 5, 10, i0=-3000, n=8, bits=12),
            # 64 equal scores, 64 x 2^10 x 2^15 = 2^31: one more than the sum may be
            _case("equal", 5, 5, I32, 2, 64, i0=-1024, bits=16),
            _case("one", -7, 7, I32, 3, 1, i0=-1, n=20),
        ),
        tolerance={torch.float64: 0.0},  # of the label that the maker is given; all inputs are integers
        targets=(
            _target("*i8", "*u8", -128, 8),
            _target("*i32", "*u8", -(1 << 29), 8),
            _target("*i8", "*i16", -128, 16),
        ),
        benches=(
            Bench(
                "65,536 rows of 4,096", _bench(1 << 16, 1 << 12, 8), torch.int8, _work, {"torch float16": _torch(torch.float16)}
            ),
            Bench("2^20 rows of 256", _bench(1 << 20, 1 << 8, 8), torch.int8, _work, {"torch float16": _torch(torch.float16)}),
            Bench(
                "1,024 rows of 256",
                _bench(1 << 10, 1 << 8, 8),
                torch.int8,
                _work,
                {"torch float32": _torch(torch.float32)},
                ("cpu",),
            ),
        ),
    )
)
