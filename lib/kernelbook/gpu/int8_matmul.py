r"""Matrix product of 8-bit integers: C[i, j] = sum over k of A[i, k] B[k, j] + bias[j], in 32 bits, and back to 8 bits.

Back to 8 bits means times a scale m[j] / 2^e[j], rounded: Y[i, j] = clip((C[i, j] m[j] + 2^(e[j] - 1)) >> e[j], -128, 127).
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

DEEPEST = (1 << 17) - 1  # products of -128 and -128 that 32 bits can sum
Dyadic = int | torch.Tensor


def dyadic(scale: float | torch.Tensor) -> tuple[Any, Any]:
    """The scale as m / 2^e with m of 31 bits, 2^30 <= m < 2^31: found once, offline, so that inference needs no float.

    scale: a number, or a tensor (n,) with one for each output channel, each from 2^-32 to 2^30.
    Returns (m, e), two ints for a number and two int32 tensors (n,) for a tensor; |m / 2^e - scale| <= 2^-31 scale, 1 <= e <= 62.
    Raises ValueError for a scale outside that range.
    Source: i-vit, dyadic numbers (requantization).
    """
    if isinstance(scale, torch.Tensor):
        pairs = [dyadic(s) for s in scale.tolist()]
        m, e = torch.tensor(pairs, dtype=torch.int32, device=scale.device).reshape(-1, 2).T.contiguous()
        return m, e
    exact = Fraction(scale) if math.isfinite(scale) else Fraction(0)
    e = 31 - math.frexp(scale)[1]
    m = math.floor(exact * Fraction(2) ** e + Fraction(1, 2))
    if m == 1 << 31:  # rounded up to the next power of two
        m, e = m >> 1, e - 1
    if m <= 0 or not 1 <= e <= 62:
        raise ValueError(f"scale={scale}: expected one from 2^-32 to 2^30")
    return m, e


def requantize(c: torch.Tensor, multiplier: Dyadic, shift: Dyadic) -> torch.Tensor:
    """c times multiplier / 2^shift, rounded to the nearest integer (halves up) and clipped to 8 bits, in integers.

    c: int32 (..., n); multiplier and shift: ints or (n,), as dyadic gives them.  Returns int8 (..., n).
    Source: i-vit, dyadic numbers (requantization).
    """
    shift = torch.as_tensor(shift, dtype=torch.int64, device=c.device)
    # half of the divisor, added before the shift that rounds down
    half = torch.ones_like(shift) << (shift - 1)
    return ((c.long() * multiplier + half) >> shift).clamp(-128, 127).to(torch.int8)


def int8_matmul_reference(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None = None,
    multiplier: Dyadic | None = None,
    shift: Dyadic | None = None,
    *,
    transpose_b: bool = False,
) -> torch.Tensor:
    """The product in plain torch, integers only.  a: (m, k), b: (k, n), or (n, k) if transpose_b.  Returns (m, n)."""
    c = a.int() @ (b.T if transpose_b else b).int()
    if bias is not None:
        c = c + bias
    return c if multiplier is None or shift is None else requantize(c, multiplier, shift)


def int8_matmul_kernel(
    a_ptr,
    b_ptr,
    bias_ptr,
    multiplier_ptr,
    shift_ptr,
    c_ptr,
    M,
    N,
    K,
    b_row,
    b_column,
    BIAS: tl.constexpr,
    REQUANTIZE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The Triton kernel: a BLOCK_M x BLOCK_N tile of C a program; b_row, b_column: from B[k, j] to the next row and column."""
    # i, j: rows and columns of the tile of C; k: the part of the sum at hand
    i = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    j = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    k = tl.arange(0, BLOCK_K)
    # C[i, j] = sum over k of A[i, k] B[k, j], in 32 bits
    c = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for start in range(0, K, BLOCK_K):
        left = K - start
        a = tl.load(a_ptr + i * K + start + k[None, :], mask=(i < M) & (k[None, :] < left), other=0)
        b = tl.load(b_ptr + (start + k[:, None]) * b_row + j * b_column, mask=(k[:, None] < left) & (j < N), other=0)
        c = tl.dot(a, b, c, out_dtype=tl.int32)
    if BIAS:
        c += tl.load(bias_ptr + j, mask=j < N)
    if REQUANTIZE:
        # 31 bits times 32 bits need 63; half of the divisor is added before the shift that rounds down
        m = tl.load(multiplier_ptr + j, mask=j < N)
        e = tl.load(shift_ptr + j, mask=j < N).to(tl.int64)
        y = (c.to(tl.int64) * m + (1 << (e - 1))) >> e
        c = tl.minimum(tl.maximum(y, -128), 127)
    tl.store(c_ptr + i * N + j, c.to(c_ptr.dtype.element_ty), mask=(i < M) & (j < N))


def int8_matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None = None,
    multiplier: Dyadic | None = None,
    shift: Dyadic | None = None,
    *,
    transpose_b: bool = False,
    backend: str = "auto",
    blocks: tuple[int, int, int] = (128, 128, 64),
) -> torch.Tensor:
    """A @ B + bias in integers as a GPU kernel, exactly, with the step back to 8 bits in the same pass.

    a: (m, k), b: (k, n) int8, contiguous; with transpose_b, b is (n, k), a linear layer's weight: the fast layout of both.
    bias: int32 (n,), in units of the products; products and bias must stay within 32 bits, for which k <= 131,071.
    multiplier, shift: ints, or int32 (n,), as dyadic gives them: the output is (A @ B + bias) multiplier / 2^shift, rounded.
    blocks: rows, columns and depth of a tile, powers of two from 16 upwards (depth: from 32 on a GPU).
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter;
    "reference" runs on the CPU only, torch has no product of integers on CUDA.
    Returns (m, n): int32, or int8 (clipped) where multiplier and shift are given.  No gradient.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: i-vit, dyadic numbers (requantization).
    """
    (rows, depth), columns = _check(a, b, bias, transpose_b, blocks)
    per_column = _per_column(a, columns, multiplier, shift)
    if not uses_triton(backend, a):
        return int8_matmul_reference(a, b, bias, multiplier, shift, transpose_b=transpose_b)
    c = torch.empty(rows, columns, dtype=torch.int8 if per_column else torch.int32, device=a.device)
    if not c.numel():
        return c
    grid = (-(-rows // blocks[0]), -(-columns // blocks[1]))
    strides = (1, depth) if transpose_b else (columns, 1)
    m, e = per_column or (c, c)  # not read where there is none
    flags: Any = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True))
    flags |= dict(BIAS=bias is not None, REQUANTIZE=bool(per_column), num_warps=8)
    launch(int8_matmul_kernel, grid, a, b, c if bias is None else bias, m, e, c, rows, columns, depth, *strides, **flags)
    return c


def _check(a: Any, b: Any, bias: Any, transpose_b: bool, blocks: Any) -> tuple[tuple[int, int], int]:
    check_tensors((torch.int8,), a=a, b=b)
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[transpose_b]:
        wanted = "(n, k)" if transpose_b else "(k, n)"
        raise ValueError(f"b has shape {tuple(b.shape)}: expected {wanted} to follow a of shape {tuple(a.shape)} as (m, k)")
    if a.shape[1] > DEEPEST:
        raise ValueError(f"a has shape {tuple(a.shape)}: expected (m, k) with k at most {DEEPEST}, for sums of 32 bits")
    if len(blocks) != 3 or any(s < 16 or s & (s - 1) for s in blocks):
        raise ValueError(f"blocks={blocks!r}: expected three powers of two from 16 upwards")
    columns = b.shape[not transpose_b]
    if bias is not None:
        _check_column("bias", bias, a, columns)
    return tuple(a.shape), columns


def _check_column(name: str, tensor: Any, a: torch.Tensor, columns: int) -> None:
    check_tensors((torch.int32,), **{name: tensor})
    if tensor.device != a.device:
        raise ValueError(f"{name} is on {tensor.device}: expected {a.device}, where a is")
    if tensor.shape != (columns,):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}: expected ({columns},), one for each column of the product")


def _per_column(a: torch.Tensor, columns: int, m: Any, e: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
    """multiplier and shift as one number for each column, or None."""
    if m is None and e is None:
        return None
    if m is None or e is None:
        raise ValueError(f"{'multiplier' if m is None else 'shift'} is None: expected both multiplier and shift, or neither")
    made = []
    for name, value, least, most in (("multiplier", m, 0, (1 << 31) - 1), ("shift", e, 1, 62)):
        if isinstance(value, int):
            if not least <= value <= most:
                raise ValueError(f"{name}={value}: expected {least} to {most}")
            value = torch.full((columns,), value, dtype=torch.int32, device=a.device)
        _check_column(name, value, a, columns)
        made.append(value)
    return made[0], made[1]


def _bytes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, generator=generator).to(torch.int8)


def _case(m: int, k: int, n: int, **options: Any) -> Case:
    def make(generator, dtype):
        transposed = options.get("transpose_b", False)
        inputs: Inputs = dict(a=_bytes(generator, m, k), b=_bytes(generator, *((n, k) if transposed else (k, n))))
        if "bias" in options:
            inputs["bias"] = torch.randint(-99999, 99999, (n,), generator=generator).int()
        if options.get("scale") == "each":
            # sums of k products reach about 1e4 sqrt(k): some outputs are clipped at either end, most are not
            scales = (0.01 + torch.rand(n, generator=generator, dtype=torch.float64) / 100) / max(k, 1) ** 0.5
            inputs["multiplier"], inputs["shift"] = dyadic(scales)
        elif "scale" in options:
            inputs["multiplier"], inputs["shift"] = options["scale"]
        return inputs | dict(transpose_b=transposed)

    return Case(f"{m} x {k} x {n}{''.join(f', {o}' for o in options)}", make, tuning=dict(blocks=(16, 16, 16)))


def _bench(size: int, requantized: bool):
    def make(generator, dtype, device):
        inputs: Inputs = dict(a=_bytes(generator, size, size).to(device), b=_bytes(generator, size, size).to(device))
        if requantized:
            m, e = dyadic(torch.full((size,), 1e-4 / size**0.5, device=device))
            inputs |= dict(bias=torch.zeros(size, dtype=torch.int32, device=device), multiplier=m, shift=e)
        return inputs | dict(transpose_b=True)

    return make


def _work(inputs: Inputs) -> Work:
    (m, k), n = inputs["a"].shape, len(inputs["b"])
    return Work(bytes=m * k + k * n + (1 if "shift" in inputs else 4) * m * n, flops=2 * m * n * k, unit="int8")


def _int_mm(inputs: Inputs):
    a, b = inputs["a"], inputs["b"].T
    return lambda: torch._int_mm(a, b)


def _floating(dtype: torch.dtype):
    def prepare(inputs):
        a, b = inputs["a"].to(dtype), inputs["b"].to(dtype).T
        return lambda: a @ b

    return prepare


def _target(transposed: bool, requantized: bool) -> Target:
    kinds = dict(a_ptr="*i8", b_ptr="*i8", bias_ptr="*i32", multiplier_ptr="*i32", shift_ptr="*i32")
    kinds |= dict(c_ptr="*i8" if requantized else "*i32")
    kinds |= dict.fromkeys(("M", "N", "K", "b_row", "b_column"), "i32")
    constants: dict[str, Any] = dict(BIAS=requantized, REQUANTIZE=requantized, BLOCK_M=128, BLOCK_N=128, BLOCK_K=64)
    one, other = (
        ("b_row", "b_column") if transposed else ("b_column", "b_row")
    )  # at a launch Triton makes a stride of 1 a constant
    return Target(int8_matmul_kernel, kinds, {one: 1} | constants, warps=8, aligned=("M", "N", "K", other))


PEERS: dict[str, Any] = {"torch._int_mm": _int_mm}

register(
    Kernel(
        name="int8_matmul",
        formula="Y[i, j] = clip((sum_k A[i, k] B[k, j] + bias[j]) m[j] / 2^e[j])",
        launcher=int8_matmul,
        reference=int8_matmul_reference,
        kernels=(int8_matmul_kernel,),
        cases=(
            _case(19, 37, 23, bias=True, scale="each"),
            _case(33, 5, 17, transpose_b=True),
            _case(1, 1, 1, scale=(3 << 29, 31)),  # times 3 / 4
            _case(2, 0, 3, bias=True),
        ),
        tolerance={torch.float64: 0.0},  # of the label that the maker is given; all inputs are integers
        targets=(_target(True, False), _target(True, True), _target(False, False), _target(False, True)),
        equivalent={
            f"int8_matmul_kernel: wrong value beyond the end: {line}, other=0)": "the other factor is 0 there, and 0 times 1 is 0"
            for line in (
                "a = tl.load(a_ptr + i * K + start + k[None, :], mask=(i < M) & (k[None, :] < left)",
                "b = tl.load(b_ptr + (start + k[:, None]) * b_row + j * b_column, mask=(k[:, None] < left) & (j < N)",
            )
        },
        benches=(
            Bench("4,096 cubed", _bench(4096, False), torch.int8, _work, PEERS | {"torch float16": _floating(torch.float16)}),
            Bench(
                "4,096 cubed, back to 8 bits",
                _bench(4096, True),
                torch.int8,
                _work,
                PEERS | {"torch float16": _floating(torch.float16)},
            ),
            Bench(
                "256 cubed", _bench(256, False), torch.int8, _work, PEERS | {"torch float32": _floating(torch.float32)}, ("cpu",)
            ),
        ),
    )
)
