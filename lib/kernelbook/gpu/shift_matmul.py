r"""Product with power-of-two weights: Y[i, j] = scale[j] sum over k of X[i, k] W[k, j], W = (-1)^sign 2^(s - 3), s in 0..7.

A code is sign * 8 + s, four bits; bits 0 to 3 of packed[r, j] hold that of W[2 r, j], bits 4 to 7 that of W[2 r + 1, j].
Two kernels: "exponent" writes s into the exponent of a float and multiplies on tensor cores; "arithmetic" shifts and adds.
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernels below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.int4_matmul import check_bfloat16, check_plan, parts_of, span_of, sum_spans_kernel, summed
from kernelbook.gpu.launch import check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

VARIANTS = ("exponent", "arithmetic")
FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.int8, torch.int32)
LEAST = -3  # log2 of the smallest |weight|
COLUMNS = 256  # of the weight that the reference has unpacked at a time
DEPTH = {4: 32, 2: 64}  # by bytes of a number: how much of the sum a program takes in one step
# bits of the smallest weight's exponent, where the exponent begins, and from bit 3 to the sign
FORMAT = {torch.float32: (127 + LEAST, 23, 28), torch.float16: (15 + LEAST, 10, 12), torch.bfloat16: (127 + LEAST, 7, 12)}


def pack_shift(codes: torch.Tensor) -> torch.Tensor:
    """Two 4-bit codes to a byte.

    codes: (K, N) codes sign * 8 + s of any integer dtype, K even.  Returns (K / 2, N) uint8.
    Raises ValueError for another shape, dtype or code.
    """
    if not isinstance(codes, torch.Tensor) or codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
        raise ValueError(f"codes is {getattr(codes, 'dtype', type(codes).__name__)}: expected a tensor of integers")
    if codes.dim() != 2 or codes.shape[0] % 2:
        raise ValueError(f"codes has shape {tuple(codes.shape)}: expected (K, N) with K even")
    if codes.numel() and (codes.min() < 0 or codes.max() > 15):
        raise ValueError(f"codes has values from {codes.min().item()} to {codes.max().item()}: expected 0 to 15")
    codes = codes.to(torch.uint8)
    return codes[::2] | codes[1::2] << 4


def unpack_shift(packed: torch.Tensor) -> torch.Tensor:
    """The codes again.  packed: (K / 2, N) uint8.  Returns (K, N) uint8.  Raises ValueError for another shape or dtype."""
    _check_packed(packed)
    return _codes(packed)


def _codes(packed: torch.Tensor) -> torch.Tensor:
    return torch.stack((packed & 15, packed >> 4), 1).view(-1, packed.shape[1])


def dequantize_shift(packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The weights (-1)^sign 2^(s - 3) scale[j] themselves.

    packed: (K / 2, N) uint8; scale: (N,) floating.  Returns (K, N) in the dtype of the scale.
    Raises ValueError naming the argument that does not fit.
    """
    check_tensors((*FLOATS, torch.float64), scale=scale)
    _check_weights(packed, scale)
    return _weights(packed, scale.dtype) * scale


def _weights(packed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    weights = [(-1) ** sign * 2.0 ** (s + LEAST) for sign in (0, 1) for s in range(8)]
    table = torch.tensor(weights, dtype=dtype, device=packed.device)
    return table.index_select(0, _codes(packed).view(-1).int()).view(-1, packed.shape[1])


def shift_matmul_reference(
    x: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor, *, variant: str = "exponent"
) -> torch.Tensor:
    """The product in plain torch, some columns at a time: the whole weight never stands in memory unpacked.

    x: (M, K), packed: (K / 2, N), scale: (N,).  Returns (M, N).  Both variants mean the same product.
    """
    # float64 holds every sum of shifted integers exactly
    wide = torch.promote_types(x.dtype, torch.float32) if x.is_floating_point() else torch.float64
    y = torch.empty(x.shape[0], packed.shape[1], dtype=x.dtype if x.is_floating_point() else scale.dtype, device=x.device)
    for start in range(0, packed.shape[1], COLUMNS):
        j = slice(start, start + COLUMNS)
        y[:, j] = (x.to(wide) @ _weights(packed[:, j], wide)) * scale[j]
    return y


def shift_exponent_kernel(
    x_ptr,
    packed_ptr,
    scale_ptr,
    y_ptr,
    M,
    N,
    K,
    span,
    LEAST: tl.constexpr,
    MANTISSA: tl.constexpr,
    SIGN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The Triton kernel: a BLOCK_M x BLOCK_N tile of the sum over one span of K a program; BLOCK_K divides span.

    The tile is held transposed: tensor cores want 64 rows on one side of a product, and N has them even where M is 1.
    """
    # i, j: rows and columns of the tile of Y; k: the part of the sum at hand; z: which span of it is this program's
    i = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    z = tl.program_id(2)
    k = tl.arange(0, BLOCK_K)[None, :]
    byte = tl.arange(0, BLOCK_K // 2)[None, :]
    y = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for start in range(z * span, tl.minimum((z + 1) * span, K), BLOCK_K):
        left = K - start
        x = tl.load(x_ptr + i[:, None] * K + start + k, mask=(i[:, None] < M) & (k < left), other=0.0)
        # a weight is read once: the cache may forget it first
        pair = tl.load(
            packed_ptr + (start // 2 + byte) * N + j, mask=(byte < left // 2) & (j < N), eviction_policy="evict_first"
        ).to(tl.int32)
        code = tl.reshape(tl.join(pair, pair >> 4), (BLOCK_N, BLOCK_K))
        # the float (-1)^sign 2^(s - 3): s goes to the exponent, the sign to the top, nothing is multiplied
        bits = (((code & 7) + LEAST) << MANTISSA) | ((code & 8) << SIGN)
        if x_ptr.dtype.element_ty != tl.float32:
            bits = bits.to(tl.int16)
        w = bits.to(x_ptr.dtype.element_ty, bitcast=True)
        y = tl.dot(w, tl.trans(x), y, input_precision="ieee")
    scale = tl.load(scale_ptr + j, mask=j < N)
    i = i[None, :]
    tl.store(y_ptr + (z * M + i) * N + j, (y * scale).to(y_ptr.dtype.element_ty), mask=(i < M) & (j < N))


def shift_add_kernel(
    x_ptr, packed_ptr, sums_ptr, M, N, K, span, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """The Triton kernel of shifts: int32 sums of X shifted left by s and negated, over one span of K; BLOCK_K divides span."""
    i = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    j = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    z = tl.program_id(2)
    k = tl.arange(0, BLOCK_K)[None, :]
    byte = tl.arange(0, BLOCK_K // 2)[None, :]
    sums = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for start in range(z * span, tl.minimum((z + 1) * span, K), BLOCK_K):
        left = K - start
        x = tl.load(x_ptr + i * K + start + k, mask=(i < M) & (k < left), other=0).to(tl.int32)
        pair = tl.load(packed_ptr + (start // 2 + byte) * N + j[:, None], mask=(byte < left // 2) & (j[:, None] < N)).to(tl.int32)
        code = tl.reshape(tl.join(pair, pair >> 4), (BLOCK_N, BLOCK_K))[None, :, :]
        # 8 times the product with (-1)^sign 2^(s - 3), an integer
        shifted = x[:, None, :] << (code & 7)
        sums += tl.sum(tl.where((code & 8) == 0, shifted, -shifted), axis=2)
    j = j[None, :]
    tl.store(sums_ptr + (z * M + i) * N + j, sums, mask=(i < M) & (j < N))


def scaled_sums_kernel(sums_ptr, scale_ptr, y_ptr, size, N, spans, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """The Triton kernel behind it: BLOCK entries of Y a program, the integers of all spans added, then scaled."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = p < size
    total = tl.zeros((BLOCK,), tl.int32)
    for _ in range(spans):
        total += tl.load(sums_ptr + p, mask=inside)
        sums_ptr += size
    scale = tl.load(scale_ptr + p % N) * UNIT
    tl.store(y_ptr + p, total.to(tl.float32) * scale, mask=inside)


def shift_matmul(
    x: torch.Tensor,
    packed: torch.Tensor,
    scale: torch.Tensor,
    *,
    variant: str = "exponent",
    backend: str = "auto",
    blocks: tuple[int, int] | None = None,
    spans: int | None = None,
) -> torch.Tensor:
    """X times weights that are signed powers of two, read as 4-bit codes; column j times scale[j].

    x: (M, K) contiguous, K even.  variant "exponent": float32, float16 or bfloat16 (with Triton that one on CUDA only: the
    interpreter has it wrong), summed in float32.  variant "arithmetic": int8 or int32, summed in int32 by shifts, negations
    and additions alone; exact as long as 128 max|x| K < 2^31, which int8 is up to K = 2^17 - 1.
    packed: (K / 2, N) uint8, as pack_shift makes it; scale: (N,) float32.
    blocks: rows and columns of a tile, powers of two, from 16 upwards for "exponent" (default: by M).
    spans: parts into which the sum is cut, to occupy the GPU where tiles are few (default: by size); their partial sums
    are added by a second kernel in a fixed order, so that equal calls give equal bits.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns (M, N), a new tensor of x's dtype, float32 for integers.  No gradient: the codes are constants.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: denseshift (the weights); shiftaddvit (MatShift).
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r}: expected one of {VARIANTS}")
    check_tensors(FLOATS if variant == "exponent" else INTEGERS, x=x)
    check_tensors((torch.float32,), scale=scale)
    _check_weights(packed, scale)
    if x.device != scale.device:
        raise ValueError(f"x is on {x.device}: expected {scale.device}, where scale is")
    if x.dim() != 2 or x.shape[0] < 1 or x.shape[1] != 2 * packed.shape[0]:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (M, {2 * packed.shape[0]}) with M at least 1, to fit packed")
    check_plan(blocks, spans, 16 if variant == "exponent" else 1)
    if not uses_triton(backend, x):
        return shift_matmul_reference(x, packed, scale)
    return (_exponent if variant == "exponent" else _arithmetic)(x, packed, scale, blocks, spans)


def _exponent(x, packed, scale, blocks, spans):
    check_bfloat16(x)
    (m, k), n, depth = x.shape, packed.shape[1], DEPTH[x.element_size()]
    block_m, block_n = blocks or (min(128, max(16, 1 << (m - 1).bit_length())), 128)
    tiles = (-(-m // block_m), -(-n // block_n))
    span = span_of(k, depth, tiles, spans, x.device)
    y = torch.empty(m, n, dtype=x.dtype, device=x.device)
    parts = parts_of(y, -(-k // span))
    constants: Any = dict(zip(("LEAST", "MANTISSA", "SIGN"), FORMAT[x.dtype], strict=True))
    constants |= dict(BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=depth, num_warps=4 if block_m <= 32 else 8, num_stages=4)
    launch(shift_exponent_kernel, (*tiles, -(-k // span)), x, packed, scale, parts, m, n, k, span, **constants)
    return summed(parts, y)


def _arithmetic(x, packed, scale, blocks, spans):
    (m, k), n = x.shape, packed.shape[1]
    block_m, block_n = blocks or (min(4, 1 << (m - 1).bit_length()), 64)
    depth = max(32, 128 // block_m)
    tiles = (-(-m // block_m), -(-n // block_n))
    # loads that feed no tensor core are not made ahead: many programs hide what each waits for
    span = span_of(k, depth, tiles, spans, x.device, crowd=16)
    y = torch.empty(m, n, dtype=torch.float32, device=x.device)
    sums = torch.empty(-(-k // span), m, n, dtype=torch.int32, device=x.device)
    constants: Any = dict(BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=depth)
    launch(shift_add_kernel, (*tiles, len(sums)), x, packed, sums, m, n, k, span, **constants)
    unit, block = 2.0**LEAST, 1024
    launch(scaled_sums_kernel, (-(-m * n // block),), sums, scale, y, m * n, n, len(sums), UNIT=unit, BLOCK=block)
    return y


def _check_packed(packed: torch.Tensor) -> None:
    check_tensors((torch.uint8,), packed=packed)
    if packed.dim() != 2 or packed.numel() == 0:
        raise ValueError(f"packed has shape {tuple(packed.shape)}: expected (K / 2, N) with nothing empty")


def _check_weights(packed: torch.Tensor, scale: torch.Tensor) -> None:
    _check_packed(packed)
    if packed.device != scale.device:
        raise ValueError(f"packed is on {packed.device}: expected {scale.device}, where scale is")
    if scale.shape != packed.shape[1:]:
        raise ValueError(f"scale has shape {tuple(scale.shape)}: expected {tuple(packed.shape[1:])}, one per column of packed")


def _case(m: int, k: int, n: int, blocks: tuple[int, int] = (16, 16), spans: int = 1) -> Case:
    def make(generator, dtype):
        packed = pack_shift(torch.randint(16, (k, n), generator=generator))
        return dict(x=normal(generator, dtype, m, k), packed=packed, scale=normal(generator, torch.float32, n))

    return Case(f"{m} x {k} x {n}, {spans} spans", make, tuning=dict(blocks=blocks, spans=spans))


def _whole_case(kind: torch.dtype, m: int, k: int, n: int, blocks: tuple[int, int], spans: int = 1) -> Case:
    def make(generator, dtype):
        packed = pack_shift(torch.randint(16, (k, n), generator=generator))
        x = torch.randint(-128, 128, (m, k), generator=generator).to(kind)
        return dict(x=x, packed=packed, scale=normal(generator, dtype, n), variant="arithmetic")

    name = f"{m} x {k} x {n}, {spans} spans, {str(kind).removeprefix('torch.')}"
    return Case(name, make, tuning=dict(blocks=blocks, spans=spans))


def _bench(m: int, size: int):
    def make(generator, dtype, device):
        packed = torch.randint(256, (size // 2, size), generator=generator, dtype=torch.uint8)
        scale = 0.01 * (1 + torch.rand(size, generator=generator))
        x = torch.randn(m, size, generator=generator).to(dtype)
        return dict(x=x.to(device), packed=packed.to(device), scale=scale.to(device))

    return make


def _whole_bench(m: int, size: int):
    def make(generator, dtype, device):
        # s up to 3 only, so that 2^s fits the int8 weights of the peer
        packed = torch.randint(256, (size // 2, size), generator=generator, dtype=torch.uint8) & 0xBB
        scale = 0.01 * (1 + torch.rand(size, generator=generator))
        x = torch.randint(-8, 8, (m, size), generator=generator, dtype=torch.int8)
        return dict(x=x.to(device), packed=packed.to(device), scale=scale.to(device), variant="arithmetic")

    return make


def _work(inputs: Inputs) -> Work:
    """For integers the ceiling is that of int8 tensor cores, which could do this product, not that of shifts."""
    x, packed, n = inputs["x"], inputs["packed"], len(inputs["scale"])
    m, k = x.shape
    unit = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}.get(x.dtype, "int8")
    out = x.element_size() if x.is_floating_point() else 4
    return Work(bytes=packed.numel() + 4 * n + x.element_size() * m * k + out * m * n, flops=2 * m * k * n, unit=unit)


def _dense(inputs: Inputs):
    """The product in 16 bits, or in float32 if x is."""
    x = inputs["x"] if inputs["x"].is_floating_point() else inputs["x"].half()
    w = (_weights(inputs["packed"], torch.float32) * inputs["scale"]).to(x.dtype)
    return lambda: x @ w


def _unpacked_each_time(inputs: Inputs):
    x, scale = inputs["x"], inputs["scale"].to(inputs["x"].dtype)
    return lambda: x @ (_weights(inputs["packed"], x.dtype) * scale)


def _int_mm(inputs: Inputs):
    x, scale = inputs["x"], inputs["scale"] * 2.0**LEAST
    w = (_weights(inputs["packed"], torch.float32) * 2.0**-LEAST).to(torch.int8)
    return lambda: torch._int_mm(x, w) * scale


def _target(kind: str, block_m: int, out: str | None = None) -> Target:
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[kind]
    signature = dict(x_ptr=f"*{kind}", packed_ptr="*u8", scale_ptr="*fp32", y_ptr=f"*{out or kind}")
    signature |= dict.fromkeys(("M", "N", "K", "span"), "i32")
    constants = dict(zip(("LEAST", "MANTISSA", "SIGN"), FORMAT[dtype], strict=True))
    constants |= dict(BLOCK_M=block_m, BLOCK_N=128, BLOCK_K=DEPTH[dtype.itemsize])
    warps = 4 if block_m <= 32 else 8
    return Target(shift_exponent_kernel, signature, constants, warps=warps, stages=4, aligned=("N", "K", "span"))


def _whole_target(kind: str, block_m: int) -> Target:
    signature = dict(x_ptr=f"*{kind}", packed_ptr="*u8", sums_ptr="*i32") | dict.fromkeys(("M", "N", "K", "span"), "i32")
    return Target(
        shift_add_kernel, signature, dict(BLOCK_M=block_m, BLOCK_N=64, BLOCK_K=128 // block_m), aligned=("N", "K", "span")
    )


PEERS: dict[str, Any] = {"torch": _dense, "unpack, then torch": _unpacked_each_time}

register(
    Kernel(
        name="shift_matmul",
        formula="Y[i, j] = scale[j] sum_k X[i, k] (-1)^sign[k, j] 2^(s[k, j] - 3), by exponents",
        launcher=shift_matmul,
        reference=shift_matmul_reference,
        kernels=(shift_exponent_kernel, sum_spans_kernel),
        cases=(
            _case(5, 90, 23, spans=2),
            _case(1, 2, 1),
            _case(19, 134, 17, spans=3),
            _case(3, 64, 33, blocks=(16, 32)),
            _case(17, 130, 67, blocks=(32, 32), spans=3),
        ),
        tolerance={torch.float32: 5e-7, torch.float16: 6e-4},
        scale=lambda inputs, exact: inputs["x"].abs() @ dequantize_shift(inputs["packed"], inputs["scale"]).abs() + 1e-300,
        targets=(
            _target("fp16", 16, out="fp32"),
            *(_target("fp16", block) for block in (16, 32, 64, 128)),
            *(_target("bf16", block) for block in (16, 128)),
            *(_target("fp32", block) for block in (16, 128)),
        ),
        benches=(
            *(Bench(f"{m} x 8,192 x 8,192, float16", _bench(m, 1 << 13), torch.float16, _work, PEERS) for m in (1, 16, 64, 256)),
            Bench("16 x 8,192 x 8,192, bfloat16", _bench(16, 1 << 13), torch.bfloat16, _work, PEERS),
            Bench("16 x 4,096 x 4,096, float32", _bench(16, 1 << 12), torch.float32, _work, PEERS, ("cpu",)),
        ),
    )
)

register(
    Kernel(
        name="shift_matmul_arithmetic",
        formula="Y[i, j] = scale[j] sum_k X[i, k] (-1)^sign[k, j] 2^(s[k, j] - 3), by shifts and additions",
        launcher=shift_matmul,
        reference=shift_matmul_reference,
        kernels=(shift_add_kernel, scaled_sums_kernel),
        cases=(
            _whole_case(torch.int8, 5, 134, 23, (2, 16), spans=2),
            _whole_case(torch.int8, 1, 2, 1, (1, 1)),
            _whole_case(torch.int32, 5, 98, 17, (4, 8), spans=3),
            _whole_case(torch.int8, 35, 6, 33, (16, 16)),
        ),
        # the integers are exact: what is left is one rounding of their product with the scale
        tolerance={torch.float32: 2.0**-24 * 1.01},
        scale=lambda inputs, exact: exact.abs() + 1e-300,
        targets=(
            *(_whole_target("i8", block) for block in (1, 4)),
            _whole_target("i32", 4),
            Target(
                scaled_sums_kernel,
                dict(sums_ptr="*i32", scale_ptr="*fp32", y_ptr="*fp32", size="i32", N="i32", spans="i32"),
                dict(UNIT=2.0**LEAST, BLOCK=1024),
                aligned=("size", "N"),
            ),
        ),
        benches=(
            Bench("1 x 8,192 x 8,192, int8", _whole_bench(1, 1 << 13), torch.float32, _work, {"torch, float16": _dense}),
            Bench(
                "64 x 8,192 x 8,192, int8",
                _whole_bench(64, 1 << 13),
                torch.float32,
                _work,
                {"torch, float16": _dense, "torch, int8": _int_mm},
            ),
        ),
    )
)
