r"""I-LayerNorm: LayerNorm of rows of integers, with Newton's integer square root.

With rows of n integers x[i, j], all of whose sums run over j:
    mu = round(sum x / n),  v = sum (x - mu)^2,  k = isqrt(v),
    y[i, j] = ((x[i, j] - mu) floor((2^31 - 1) / k)) >> 1, + bias[j],  in units of gamma[j] sqrt(n) / 2^30.
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, register
from kernelbook.gpu.shiftmax import LARGEST, check_rows, integers, rows_of

if TYPE_CHECKING:
    import triton.language as tl

INTEGERS = (torch.int8, torch.int16, torch.int32)
STEPS = {"bits": 4, "paper": 10}  # of Newton's iteration, from each start


def isqrt_newton(v: torch.Tensor, *, start: str = "bits", steps: int | None = None) -> torch.Tensor:
    """The integer square root by Newton's iteration k <- (k + v // k) >> 1, in integers.

    v: int64, 0 or more; 0 counts as 1, so that the result can be divided by.
    start: "bits" starts at 2^ceil(bits / 2), the least power of two whose square is above v: four steps are within 1 of
    math.isqrt for every v below 2^48, five for every int64; "paper" starts at 2^16 for ten steps, which is right
    only from about 5e4 upwards.  steps: how many (default: 4 and 10).
    Returns int64 of the shape of v, at least math.isqrt(v).
    Raises ValueError naming the argument that does not fit.
    Source: i-vit, I-LayerNorm (paper); this book (bits).
    """
    check_tensors((torch.int64,), v=v)
    _check_start(start)
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise ValueError(f"steps={steps!r}: expected a whole number from 1 upwards")
    v = v.clamp_min(1)
    k = torch.full_like(v, 1 << 16)
    if start == "bits":
        # as many doublings as there are powers of 4 up to v
        powers = 2 * torch.arange(32, device=v.device)
        k = 1 << (v[..., None] >> powers > 0).sum(-1)
    for _ in range(steps or STEPS[start]):
        k = (k + v // k) >> 1
    return k


def _check_start(start: str) -> None:
    if start not in STEPS:
        raise ValueError(f"start={start!r}: expected one of {tuple(STEPS)}")


def layernorm_bias(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """LayerNorm's bias as the integers floor((beta / gamma) 2^30 / sqrt(n)): found once, offline.

    weight, bias: gamma and beta of LayerNorm, float32 or float64 (n,).  Returns int32 (n,).
    Raises ValueError where a gamma is 0, or so small beside its beta that the output could pass 32 bits.
    Source: i-vit, I-LayerNorm.
    """
    check_tensors(FLOATS, weight=weight, bias=bias)
    if weight.dim() != 1 or bias.shape != weight.shape:
        raise ValueError(f"bias has shape {tuple(bias.shape)} beside weight {tuple(weight.shape)}: expected (n,) for both")
    units = (bias.double() / weight.double() * 2**30 / weight.numel() ** 0.5).floor()
    if not bool((units.abs() <= 2**30).all()):
        j = int(torch.nonzero(~(units.abs() <= 2**30))[0])
        limit = weight.numel() ** 0.5
        raise ValueError(f"weight[{j}] is {weight[j]:g} with bias {bias[j]:g}: expected at least |bias| / {limit:.4g}, and not 0")
    return units.int()


def integer_layernorm_reference(x: torch.Tensor, bias: torch.Tensor | None = None, *, start: str = "bits") -> torch.Tensor:
    """I-LayerNorm along the last axis in plain torch, integers only.  x: (..., n).  Returns int32 (..., n)."""
    n = x.shape[-1]
    x = x.long()
    # the mean, rounded to the nearest integer: // rounds down
    d = x - (x.sum(-1, keepdim=True) + n // 2) // n
    k = isqrt_newton((d * d).sum(-1, keepdim=True), start=start)
    # no |d| is above k, so that the product stays below 2^31
    y = ((d * (LARGEST // k)) >> 1).int()
    return y if bias is None else y + bias


def integer_layernorm_kernel(
    x_ptr, bias_ptr, y_ptr, n, BIAS: tl.constexpr, FROM_BITS: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr
):
    """The Triton kernel: one row of n numbers a program; BLOCK is a power of two, at least n."""
    row = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + row * n + j, mask=j < n, other=0).to(tl.int64)
    # the mean, rounded to the nearest integer: // rounds toward 0 here, which is one too high below 0
    total = tl.sum(x, axis=0) + n // 2
    mean = total // n
    mean -= (mean * n > total).to(tl.int64)
    d = tl.where(j < n, x - mean, 0)
    v = tl.maximum(tl.sum(d * d, axis=0), 1)
    # k = isqrt(v); from 2^16, or from the least power of two whose square is above v
    k = tl.full((), 65536, tl.int64)
    if FROM_BITS:
        k = tl.full((), 1, tl.int64) << tl.sum((v >> 2 * tl.arange(0, 32) > 0).to(tl.int64), axis=0)
    for _ in tl.static_range(STEPS):
        k = (k + v // k) >> 1
    # y[j] = d[j] / k; 32 bits hold the product, because no |d| is above k
    y = d.to(tl.int32) * (0x7FFFFFFF // k).to(tl.int32) >> 1
    if BIAS:
        y += tl.load(bias_ptr + j, mask=j < n)
    tl.store(y_ptr + row * n + j, y, mask=j < n)


def integer_layernorm(
    x: torch.Tensor, bias: torch.Tensor | None = None, *, start: str = "bits", backend: str = "auto"
) -> torch.Tensor:
    """LayerNorm along the last axis in integers, as a GPU kernel that reads and writes each number once.

    x: (..., n) int8, int16 or int32 in any units, contiguous, nothing empty; n (max x - min x)^2 below 2^48; n at most 32,768 for
    Triton.  bias: int32 (n,), |bias| <= 2^30, as layernorm_bias gives it.
    start: of the square root, "bits" or "paper", see isqrt_newton; the paper's is for squares below 2^32.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns int32 (..., n), in units of gamma sqrt(n) / 2^30, one for each column; equal numbers give the bias.  No gradient.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: i-vit, I-LayerNorm.
    """
    check_rows(INTEGERS, x=x)
    _check_start(start)
    n = x.shape[-1]
    if bias is not None:
        check_tensors((torch.int32,), bias=bias)
        if bias.device != x.device:
            raise ValueError(f"bias is on {bias.device}: expected {x.device}, where x is")
        if bias.shape != (n,):
            raise ValueError(f"bias has shape {tuple(bias.shape)}: expected ({n},), as the rows of x")
    if not uses_triton(backend, x):
        return integer_layernorm_reference(x, bias, start=start)
    grid, tile = rows_of("x", x)
    y = torch.empty_like(x, dtype=torch.int32)
    flags: Any = dict(BIAS=bias is not None, FROM_BITS=start == "bits", STEPS=STEPS[start]) | tile
    launch(integer_layernorm_kernel, grid, x, y if bias is None else bias, y, n, **flags)
    return y


def _case(what: str, low: int, high: int, dtype: torch.dtype, *shape: int, bias: bool = False, start: str = "bits") -> Case:
    def make(generator, _):
        inputs: Inputs = dict(x=integers(generator, low, high, dtype, *shape), start=start)
        return inputs | (dict(bias=integers(generator, -(1 << 30), 1 << 30, torch.int32, shape[-1])) if bias else {})

    return Case(f"{what}, {str(dtype).removeprefix('torch.')} {shape}{', bias' if bias else ''}, {start}", make)


def _counted(generator, _):
    # rows of 7 with 0 to 3 ones among zeros: mean 0, v = 0, 1, 2, 3, where one step more or less shows
    return dict(x=torch.ones(4, 7, dtype=torch.int8).tril(-1))


def _bench(rows: int, length: int):
    def make(generator, dtype, device):
        x, bias = (
            integers(generator, -(1 << 15), (1 << 15) - 1, torch.int16, rows, length),
            torch.zeros(length, dtype=torch.int32),
        )
        return dict(x=x.to(device), bias=bias.to(device))

    return make


def _work(inputs: Inputs) -> Work:
    return Work(bytes=6 * inputs["x"].numel())


def _torch(dtype: torch.dtype):
    def prepare(inputs):
        x, bias = inputs["x"].to(dtype), inputs["bias"].to(dtype)
        return lambda: torch.nn.functional.layer_norm(x, bias.shape, bias=bias)

    return prepare


def _target(kind: str, start: str) -> Target:
    kinds = dict(x_ptr=kind, bias_ptr="*i32", y_ptr="*i32", n="i32")
    constants = dict(BIAS=True, FROM_BITS=start == "bits", STEPS=STEPS[start], BLOCK=4096)
    return Target(integer_layernorm_kernel, kinds, constants, warps=8)


I8, I16, I32 = INTEGERS

register(
    Kernel(
        name="integer_layernorm",
        formula="y[i, j] = (x[i, j] - mu[i]) floor((2^31 - 1) / isqrt(sum (x[i] - mu[i])^2)) / 2 + bias[j]",
        launcher=integer_layernorm,
        reference=integer_layernorm_reference,
        kernels=(integer_layernorm_kernel,),
        cases=(
            # about a mean of -100: a lane beyond the row that counts as 0 - mu would count most
            _case("about -100", -110, -90, I8, 2, 37, bias=True),
            _case("means with halves and none", -3, 2, I8, 24, 3),
            _case("residual stream", -32768, 32767, I16, 3, 33),
            _case("wide", -(1 << 20), 1 << 20, I32, 2, 5, bias=True),
            _case("residual stream", -3000, 3000, I16, 2, 5, start="paper"),
            Case("small variances", _counted),
            _case("one", -7, 7, I32, 3, 1, bias=True),
        ),
        tolerance={torch.float64: 0.0},  # of the label that the maker is given; all inputs are integers
        targets=(_target("*i16", "bits"), _target("*i8", "paper"), _target("*i32", "bits")),
        benches=(
            Bench("65,536 rows of 4,096", _bench(1 << 16, 1 << 12), torch.int16, _work, {"torch float16": _torch(torch.float16)}),
            Bench(
                "1,024 rows of 256",
                _bench(1 << 10, 1 << 8),
                torch.int16,
                _work,
                {"torch float32": _torch(torch.float32)},
                ("cpu",),
            ),
        ),
    )
)
