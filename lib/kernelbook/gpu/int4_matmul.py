r"""Product with 4-bit weights: Y[i, j] = sum over k of X[i, k] S[k // group, j] (q[k, j] - 8), codes q in 0..15.

Eight consecutive k share a 32-bit word: bits 4 b to 4 b + 3 of packed[r, j] hold q[8 r + b, j].
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernels below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
COLUMNS = 256  # of the weight that the reference has unpacked at a time
DEPTH = {4: 32, 2: 128}  # by bytes of a number: how much of the sum a program takes in one step, at most
# bits of the number 2^m whose last place is 1, and 2^m + 8: OR with a code q gives the bits of 2^m + q
MAGIC = {torch.float32: (0x4B000000, 8388616.0), torch.float16: (0x6400, 1032.0), torch.bfloat16: (0x4300, 136.0)}


def pack_int4(q: torch.Tensor) -> torch.Tensor:
    """Eight 4-bit codes to a word.

    q: (K, N) codes in 0..15 of any integer dtype, K a multiple of 8.  Returns (K / 8, N) int32.
    Raises ValueError for another shape, dtype or code.
    """
    if not isinstance(q, torch.Tensor) or q.is_floating_point() or q.is_complex() or q.dtype == torch.bool:
        raise ValueError(f"q is {getattr(q, 'dtype', type(q).__name__)}: expected a tensor of integers")
    if q.dim() != 2 or q.shape[0] % 8:
        raise ValueError(f"q has shape {tuple(q.shape)}: expected (K, N) with K a multiple of 8")
    if q.numel() and (q.min() < 0 or q.max() > 15):
        raise ValueError(f"q has codes from {q.min().item()} to {q.max().item()}: expected 0 to 15")
    eight = q.to(torch.int32).view(-1, 8, q.shape[1])
    word = torch.zeros_like(eight[:, 0])
    for b in range(8):
        word |= eight[:, b] << (4 * b)
    return word


def unpack_int4(packed: torch.Tensor) -> torch.Tensor:
    """The codes again.  packed: (K / 8, N) int32.  Returns (K, N) int32.  Raises ValueError for another shape or dtype."""
    _check_packed(packed)
    return _codes(packed)


def _codes(packed: torch.Tensor) -> torch.Tensor:
    shift = torch.arange(0, 32, 4, dtype=torch.int32, device=packed.device)
    return ((packed[:, None] >> shift[:, None]) & 15).view(-1, packed.shape[1])


def dequantize_int4(packed: torch.Tensor, scales: torch.Tensor, *, group: int = 128) -> torch.Tensor:
    """The weights S[k // group, j] (q[k, j] - 8) themselves.

    packed: (K / 8, N) int32; scales: (K / group, N) floating.  Returns (K, N) in the dtype of the scales.
    Raises ValueError naming the argument that does not fit.
    """
    check_tensors((*DTYPES, torch.float64), scales=scales)
    _check_weights(packed, scales, group)
    return _weights(packed, scales)


def _weights(packed: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    grouped = _codes(packed).to(scales.dtype).sub_(8).view(scales.shape[0], -1, scales.shape[1])
    return grouped.mul_(scales[:, None]).view(-1, scales.shape[1])


def int4_matmul_reference(x: torch.Tensor, packed: torch.Tensor, scales: torch.Tensor, *, group: int = 128) -> torch.Tensor:
    """The product in plain torch, some columns at a time: the whole weight never stands in memory unpacked.

    x: (M, K), packed: (K / 8, N), scales: (K / group, N).  Returns (M, N), computed in float32 or wider.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    y = torch.empty(x.shape[0], packed.shape[1], dtype=x.dtype, device=x.device)
    for start in range(0, packed.shape[1], COLUMNS):
        j = slice(start, start + COLUMNS)
        y[:, j] = x.to(wide) @ _weights(packed[:, j], scales[:, j].to(wide))
    return y


def int4_matmul_kernel(
    x_ptr,
    packed_ptr,
    scales_ptr,
    y_ptr,
    M,
    N,
    K,
    span,
    GROUP: tl.constexpr,
    MAGIC: tl.constexpr,
    BIAS: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """The Triton kernel: a BLOCK_M x BLOCK_N tile of the sum over one span of K a program; BLOCK_K divides GROUP and span.

    The tile is held transposed: tensor cores want 64 rows on one side of a product, and N has them even where M is 1.
    """
    # i, j: rows and columns of the tile of Y; k: the part of the sum at hand; z: which span of it is this program's
    i = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    j = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[:, None]
    z = tl.program_id(2)
    k = tl.arange(0, BLOCK_K)[None, :]
    word = tl.arange(0, BLOCK_K // 8)[None, :]
    y = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    for start in range(z * span, tl.minimum((z + 1) * span, K), BLOCK_K):
        # one row of scales holds for the whole step: it multiplies the BLOCK_M sums of a column, not its BLOCK_K weights
        scale = tl.load(scales_ptr + (start // GROUP) * N + j, mask=j < N)
        x = tl.load(x_ptr + i[:, None] * K + start + k, mask=i[:, None] < M)
        # a weight is read once: the cache may forget it first
        q = tl.load(packed_ptr + (start // 8 + word) * N + j, mask=j < N, eviction_policy="evict_first")
        # halves, quarters and eighths of each word side by side, as the bits of k ask: all of them in the thread that read it
        q = tl.reshape(tl.join(q, q >> 16), (BLOCK_N, BLOCK_K // 4))
        q = tl.reshape(tl.join(q, q >> 8), (BLOCK_N, BLOCK_K // 2))
        q = tl.reshape(tl.join(q, q >> 4), (BLOCK_N, BLOCK_K))
        # MAGIC is a power of two, as a float, whose last place is 1: with q for its lowest bits it has become BIAS - 8 + q
        bits = (q & 15) | MAGIC
        if x_ptr.dtype.element_ty != tl.float32:
            bits = bits.to(tl.int16)
        w = bits.to(x_ptr.dtype.element_ty, bitcast=True) - BIAS
        y += tl.dot(w, tl.trans(x), input_precision="ieee") * scale
    i = i[None, :]
    tl.store(y_ptr + (z * M + i) * N + j, y.to(y_ptr.dtype.element_ty), mask=(i < M) & (j < N))


def sum_spans_kernel(partial_ptr, y_ptr, size, spans, BLOCK: tl.constexpr):
    """The Triton kernel: BLOCK entries of Y a program, each the sum over the spans, always in the same order."""
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y = tl.zeros((BLOCK,), tl.float32)
    for _ in range(spans):
        y += tl.load(partial_ptr + p, mask=p < size)
        partial_ptr += size
    tl.store(y_ptr + p, y.to(y_ptr.dtype.element_ty), mask=p < size)


def int4_matmul(
    x: torch.Tensor,
    packed: torch.Tensor,
    scales: torch.Tensor,
    *,
    group: int = 128,
    backend: str = "auto",
    blocks: tuple[int, int] | None = None,
    spans: int | None = None,
) -> torch.Tensor:
    """X times the weights S (q - 8), which are read as 4-bit codes; summed in float32.

    x: (M, K) float32, float16 or bfloat16 (with Triton that one on CUDA only: the interpreter has it wrong), contiguous.
    packed: (K / 8, N) int32, as pack_int4 makes it; scales: (K / group, N), dtype of x.
    group: rows of the weight with one row of scales, a multiple of 16 that divides K (K itself: one scale a column).
    blocks: rows and columns of a tile, powers of two from 16 upwards (default: by M).
    spans: parts into which the sum is cut, to occupy the GPU where tiles are few (default: by size); their partial sums
    are added by a second kernel in a fixed order, so that equal calls give equal bits.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns (M, N), a new tensor of x's dtype.  No gradient: the codes are constants.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: marlin (the format, without its permuted layout and striped partition).
    """
    check_tensors(DTYPES, x=x, scales=scales)
    _check_weights(packed, scales, group)
    if x.dim() != 2 or x.shape[0] < 1 or x.shape[1] != 8 * packed.shape[0]:
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (M, {8 * packed.shape[0]}) with M at least 1, to fit packed")
    check_plan(blocks, spans)
    if not uses_triton(backend, x):
        return int4_matmul_reference(x, packed, scales, group=group)
    check_bfloat16(x)
    (m, k), n = x.shape, packed.shape[1]
    depth = min(group & -group, DEPTH[x.element_size()])
    block_m, block_n = blocks or (min(128, max(16, 1 << (m - 1).bit_length())), 128)
    tiles = (-(-m // block_m), -(-n // block_n))
    span = span_of(k, depth, tiles, spans, x.device)
    y = torch.empty(m, n, dtype=x.dtype, device=x.device)
    parts = parts_of(y, -(-k // span))
    magic, bias = MAGIC[x.dtype]
    constants: Any = dict(GROUP=group, MAGIC=magic, BIAS=bias, BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=depth)
    constants |= dict(num_warps=8, num_stages=3) if block_m > 32 else dict(num_warps=4, num_stages=4)
    launch(int4_matmul_kernel, (*tiles, -(-k // span)), x, packed, scales, parts, m, n, k, span, **constants)
    return summed(parts, y)


def check_plan(blocks: tuple[int, int] | None, spans: int | None, least: int = 16) -> None:
    """Raises ValueError for tiles that are no powers of two from `least` upwards, and for less than one span."""
    if blocks is not None and (len(blocks) != 2 or any(s < least or s & (s - 1) for s in blocks)):
        raise ValueError(f"blocks={blocks!r}: expected two powers of two from {least} upwards")
    if spans is not None and spans < 1:
        raise ValueError(f"spans={spans}: expected at least 1")


def check_bfloat16(x: torch.Tensor) -> None:
    """Raises ValueError for bfloat16 in Triton's interpreter, which computes it wrongly."""
    if x.dtype == torch.bfloat16 and not x.is_cuda:
        raise ValueError(
            "x has dtype torch.bfloat16: expected float32 or float16, Triton's interpreter computes bfloat16 wrongly"
        )


def span_of(k: int, depth: int, tiles: tuple[int, int], spans: int | None, device: torch.device, crowd: int = 2) -> int:
    """How much of a sum over k one program takes: a multiple of depth, so that there are at most `spans` parts.

    spans: None for as many as give every processor of the GPU `crowd` programs, each with at least four steps.
    """
    steps = -(-k // depth)
    if spans is None:
        processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
        spans = max(1, min(-(-crowd * processors // (tiles[0] * tiles[1])), steps // 4))
    return -(-steps // spans) * depth


def parts_of(y: torch.Tensor, spans: int) -> torch.Tensor:
    """Where the spans leave their sums: in y itself if there is one, otherwise in float32 memory of their own."""
    return y if spans == 1 else torch.empty(spans, *y.shape, dtype=torch.float32, device=y.device)


def summed(parts: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """y, once the parts are added up in it."""
    if parts is not y:
        launch(sum_spans_kernel, (-(-y.numel() // 1024),), parts, y, y.numel(), len(parts), BLOCK=1024)
    return y


def _check_packed(packed: torch.Tensor) -> None:
    check_tensors((torch.int32,), packed=packed)
    if packed.dim() != 2 or packed.numel() == 0:
        raise ValueError(f"packed has shape {tuple(packed.shape)}: expected (K / 8, N) with nothing empty")


def _check_weights(packed: torch.Tensor, scales: torch.Tensor, group: int) -> None:
    _check_packed(packed)
    if packed.device != scales.device:
        raise ValueError(f"packed is on {packed.device}: expected {scales.device}, where scales is")
    k, n = 8 * packed.shape[0], packed.shape[1]
    if group < 16 or group % 16 or k % group:
        raise ValueError(f"group={group}: expected a multiple of 16 that divides K = {k}")
    if scales.shape != (k // group, n):
        raise ValueError(f"scales has shape {tuple(scales.shape)}: expected {(k // group, n)}, one row per group of {group}")


def _case(m: int, k: int, n: int, group: int, blocks: tuple[int, int] = (16, 16), spans: int = 1) -> Case:
    def make(generator, dtype):
        q = torch.randint(16, (k, n), generator=generator)
        scales = normal(generator, dtype, k // group, n)
        return dict(x=normal(generator, dtype, m, k), packed=pack_int4(q), scales=scales, group=group)

    return Case(f"{m} x {k} x {n}, groups of {group}, {spans} spans", make, tuning=dict(blocks=blocks, spans=spans))


def _bench(m: int, size: int):
    def make(generator, dtype, device):
        packed = torch.randint(-(2**31), 2**31, (size // 8, size), generator=generator, dtype=torch.int32)
        scales = (0.01 * (1 + torch.rand(size // 128, size, generator=generator))).to(dtype)
        x = torch.randn(m, size, generator=generator).to(dtype)
        return dict(x=x.to(device), packed=packed.to(device), scales=scales.to(device))

    return make


def _work(inputs: Inputs) -> Work:
    (m, k), n = inputs["x"].shape, inputs["packed"].shape[1]
    numbers = inputs["scales"].numel() + m * (k + n)
    unit = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[inputs["x"].dtype]
    return Work(bytes=k * n / 2 + inputs["x"].element_size() * numbers, flops=2 * m * k * n, unit=unit)


def _dense(inputs: Inputs):
    x, w = inputs["x"], _weights(inputs["packed"], inputs["scales"])
    return lambda: x @ w


def _unpacked_each_time(inputs: Inputs):
    return lambda: inputs["x"] @ _weights(inputs["packed"], inputs["scales"])


def _aten(inputs: Inputs):
    """PyTorch's own product with 4-bit weights, which has zero points too."""
    x, scales = inputs["x"], inputs["scales"]
    q = _codes(inputs["packed"]).T.contiguous()
    points = torch.stack([scales, torch.zeros_like(scales)], -1)
    if not x.is_cuda:
        w = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q, 1)
        return lambda: torch.ops.aten._weight_int4pack_mm_for_cpu(x, w, 128, points)
    w = torch.ops.aten._convert_weight_to_int4pack((q[:, ::2] << 4 | q[:, 1::2]).to(torch.uint8), 8)
    return lambda: torch.ops.aten._weight_int4pack_mm(x, w, 128, points)


def _target(kind: str, block_m: int, out: str | None = None) -> Target:
    dtype = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[kind]
    signature = dict(x_ptr=f"*{kind}", packed_ptr="*i32", scales_ptr=f"*{kind}", y_ptr=f"*{out or kind}")
    signature |= dict.fromkeys(("M", "N", "K", "span"), "i32")
    constants = dict(zip(("MAGIC", "BIAS"), MAGIC[dtype], strict=True))
    constants |= dict(GROUP=128, BLOCK_M=block_m, BLOCK_N=128, BLOCK_K=DEPTH[dtype.itemsize])
    few = block_m <= 32
    sizes = ("N", "K", "span")
    return Target(int4_matmul_kernel, signature, constants, warps=4 if few else 8, stages=4 if few else 3, aligned=sizes)


PEERS: dict[str, Any] = {"torch": _dense, "unpack, then torch": _unpacked_each_time}

register(
    Kernel(
        name="int4_matmul",
        formula="Y[i, j] = sum_k X[i, k] S[k // g, j] (q[k, j] - 8)",
        launcher=int4_matmul,
        reference=int4_matmul_reference,
        kernels=(int4_matmul_kernel, sum_spans_kernel),
        cases=(
            _case(5, 96, 23, 32, spans=2),
            _case(1, 16, 1, 16),
            _case(19, 96, 17, 48, spans=4),
            _case(3, 64, 33, 64, blocks=(16, 32)),
            _case(17, 64, 67, 16, blocks=(32, 32), spans=3),
        ),
        tolerance={torch.float32: 5e-7, torch.float16: 6e-4},
        scale=lambda inputs, exact: inputs["x"].abs() @ _weights(inputs["packed"], inputs["scales"]).abs() + 1e-300,
        targets=(
            _target("fp16", 16, out="fp32"),
            _target("fp16", 16),
            _target("fp16", 32),
            _target("fp16", 64),
            _target("fp16", 128),
            _target("bf16", 16),
            _target("bf16", 128),
            _target("fp32", 16),
            _target("fp32", 128),
            Target(
                sum_spans_kernel,
                dict(partial_ptr="*fp32", y_ptr="*fp16", size="i32", spans="i32"),
                dict(BLOCK=1024),
                aligned=("size",),
            ),
        ),
        benches=(
            *(
                Bench(f"{m} x 16,384 x 16,384, float16", _bench(m, 1 << 14), torch.float16, _work, PEERS)
                for m in (1, 16, 64, 256)
            ),
            Bench("16 x 16,384 x 16,384, bfloat16", _bench(16, 1 << 14), torch.bfloat16, _work, PEERS | {"aten": _aten}),
            *(
                Bench(
                    f"{m} x 4,096 x 4,096, float32", _bench(m, 1 << 12), torch.float32, _work, PEERS | {"aten": _aten}, ("cpu",)
                )
                for m in (1, 16)
            ),
        ),
    )
)
