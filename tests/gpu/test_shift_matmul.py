"""Product with power-of-two weights: the codes, exact sums of shifts, the same from both kernels, bad arguments."""

import math

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.registry import normal
from kernelbook.gpu.shift_matmul import FORMAT, dequantize_shift, pack_shift, shift_matmul, shift_matmul_reference, unpack_shift

linux = pytest.mark.skipif("sys.platform != 'linux'")
BACKENDS = ["reference", pytest.param("triton", marks=linux)]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def draw(m, k, n):
    generator = run.generator("shift")
    codes = torch.randint(16, (k, n), generator=generator)
    x = torch.randint(-128, 128, (m, k), generator=generator).to(torch.int8)
    scale = normal(generator, torch.float32, n)
    return x.to(run.device), pack_shift(codes).to(run.device), scale.to(run.device), codes


def weight(code):
    return math.ldexp(-1.0 if code >= 8 else 1.0, code % 8 - 3)


def test_every_pair_of_codes_survives_the_packing():
    codes = torch.stack([torch.arange(256) % 16, torch.arange(256) // 16])
    packed = pack_shift(codes)
    assert packed.dtype == torch.uint8 and torch.equal(packed[0], torch.arange(256).to(torch.uint8))
    assert torch.equal(unpack_shift(packed), codes.to(torch.uint8))
    assert torch.equal(pack_shift(torch.arange(6)[:, None]).flatten(), torch.tensor([0x10, 0x32, 0x54], dtype=torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_weights_are_signed_powers_of_two(dtype):
    w = dequantize_shift(pack_shift(torch.arange(16)[:, None]), torch.tensor([0.5], dtype=dtype))
    assert w.dtype == dtype and w.flatten().tolist() == [0.5 * weight(c) for c in range(16)]


@pytest.mark.parametrize("dtype", FORMAT)
def test_bits_of_a_code_are_the_float(dtype):
    least, mantissa, sign = FORMAT[dtype]
    code = torch.arange(16, dtype=torch.int32)
    bits = (((code & 7) + least) << mantissa) | ((code & 8) << sign)
    w = bits.to(torch.int32 if dtype == torch.float32 else torch.int16).view(dtype)
    assert w.tolist() == [weight(c) for c in range(16)]


@each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_kernel_builds_every_weight_in_every_place_exactly(dtype, backend):
    """X is the identity: out come the weights themselves."""
    packed = pack_shift((torch.arange(34)[:, None] + torch.arange(16)) % 16).to(run.device)
    one = torch.ones(16, device=run.device)
    x = torch.eye(34, dtype=dtype, device=run.device)
    y = shift_matmul(x, packed, one, backend=backend, blocks=(64, 16), spans=2)
    assert torch.equal(y, dequantize_shift(packed, one).to(dtype))


@each_backend
@pytest.mark.parametrize("kind", [torch.int8, torch.int32])
def test_shifts_and_additions_are_exact(kind, backend):
    x, packed, _, codes = draw(7, 202, 19)
    eight = torch.full((19,), 8.0, device=run.device)
    y = shift_matmul(x.to(kind), packed, eight, variant="arithmetic", backend=backend)
    sign, s = 1 - 2 * (codes >> 3), codes & 7
    by_shifts = ((x.cpu().long()[:, :, None] << s) * sign).sum(1)
    assert y.dtype == torch.float32 and torch.equal(y.cpu().long(), by_shifts)
    assert torch.equal(x.cpu().double() @ torch.ldexp(sign.double(), s), by_shifts.double())


@each_backend
def test_largest_sum_of_int8_fits_int32(backend):
    k = 4098
    x = torch.full((1, k), -128, dtype=torch.int8, device=run.device)
    packed = torch.full((k // 2, 1), 0xFF, dtype=torch.uint8, device=run.device)  # every weight is -2^7 / 8
    y = shift_matmul(x, packed, torch.tensor([2.0**-11], device=run.device), variant="arithmetic", backend=backend)
    assert y.item() == k  # 2^14 k, an integer that float32 holds, times 2^-3 2^-11


@linux
def test_both_kernels_agree_on_integers():
    x, packed, scale, _ = draw(5, 64, 23)
    a = shift_matmul(x, packed, scale, variant="arithmetic", backend="triton")
    b = shift_matmul(x.float(), packed, scale, variant="exponent", backend="triton")
    assert torch.equal(a, b)  # sums below 2^24: float32 rounds only where the scale comes in


@linux
def test_spans_change_nothing_in_sums_of_integers():
    x, packed, scale, _ = draw(3, 400, 70)
    whole, cut = (shift_matmul(x, packed, scale, variant="arithmetic", backend="triton", spans=s) for s in (1, 5))
    assert torch.equal(whole, cut)


@linux
def test_spans_are_added_in_the_same_order_every_time():
    x, packed, scale, _ = draw(3, 400, 40)
    x = torch.sin(x.float())
    first, again, whole = (shift_matmul(x, packed, scale, backend="triton", blocks=(16, 64), spans=s) for s in (7, 7, 1))
    assert torch.equal(first, again) and not torch.equal(first, whole) and torch.allclose(first, whole, atol=1e-2)


@linux
def test_default_tiles_and_columns_beyond_one_chunk_of_the_reference():
    x, packed, scale, _ = draw(5, 130, 523)
    x = x.float()
    wanted = x @ dequantize_shift(packed, scale)
    for y in (shift_matmul(x, packed, scale, backend="triton"), shift_matmul_reference(x, packed, scale)):
        assert torch.allclose(y, wanted, atol=1e-5 * wanted.abs().max().item())


def test_pytorchs_integer_product_gives_the_same():
    x, _, scale, codes = draw(32, 64, 24)
    codes &= 0b1011  # up to 2^3, so that the weights fit int8
    packed = pack_shift(codes).to(run.device)
    w = (dequantize_shift(packed, torch.ones_like(scale)) * 8).to(torch.int8)
    wanted = torch._int_mm(x, w).float() * (scale / 8)
    for backend in ("reference", "auto"):
        y = shift_matmul(x, packed, scale, variant="arithmetic", backend=backend)
        assert torch.allclose(y, wanted, rtol=2e-7, atol=0)


@pytest.mark.skipif(run.device.type == "cuda", reason="the CPU computes bfloat16 by the reference")
def test_bfloat16_on_the_cpu():
    x, packed, scale, _ = draw(4, 32, 8)
    y = shift_matmul(x.bfloat16(), packed, scale)
    wanted = shift_matmul(x, packed, scale, variant="arithmetic")
    assert y.dtype == torch.bfloat16 and torch.allclose(y.float(), wanted, rtol=2**-8)


X, P, S = torch.ones(3, 64), torch.zeros(32, 5, dtype=torch.uint8), torch.ones(5)
Z = X.to(torch.int8)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: pack_shift(torch.ones(8, 2)), "codes is torch.float32: expected a tensor of integers"),
        (lambda: pack_shift(torch.ones(8, 2, dtype=torch.bool)), "codes is torch.bool: expected a tensor of integers"),
        (lambda: pack_shift(None), "codes is NoneType: expected a tensor of integers"),
        (lambda: pack_shift(torch.zeros(3, 2, dtype=torch.int64)), r"codes has shape \(3, 2\): expected .* K even"),
        (lambda: pack_shift(torch.full((2, 1), 16)), "codes has values from 16 to 16: expected 0 to 15"),
        (lambda: pack_shift(torch.full((2, 1), -1)), "codes has values from -1 to -1: expected 0 to 15"),
        (lambda: unpack_shift(P.int()), "packed has dtype torch.int32: expected uint8"),
        (lambda: unpack_shift(P[:0]), r"packed has shape \(0, 5\): expected"),
        (lambda: dequantize_shift(P, S.int()), "scale has dtype torch.int32: expected"),
        (lambda: dequantize_shift(P, S[:4]), r"scale has shape \(4,\): expected \(5,\), one per column of packed"),
        (lambda: shift_matmul(X, P, S, variant="shift"), "variant='shift': expected one of"),
        (lambda: shift_matmul(Z, P, S), "x has dtype torch.int8: expected float32 or float16 or bfloat16"),
        (lambda: shift_matmul(X, P, S, variant="arithmetic"), "x has dtype torch.float32: expected int8 or int32"),
        (lambda: shift_matmul(X, P, S.half()), "scale has dtype torch.float16: expected float32"),
        (lambda: shift_matmul(X, P[:, ::2], S[:3]), r"packed has strides \(5, 2\): expected contiguous"),
        (lambda: shift_matmul(X, P.to("meta"), S), "packed is on meta: expected cpu, where scale is"),
        (lambda: shift_matmul(X.to("meta"), P, S), "x is on meta: expected cpu, where scale is"),
        (lambda: shift_matmul(X[:, :32].contiguous(), P, S), r"x has shape \(3, 32\): expected \(M, 64\)"),
        (lambda: shift_matmul(X[0], P, S), r"x has shape \(64,\): expected"),
        (lambda: shift_matmul(X[:0], P, S), r"x has shape \(0, 64\): expected"),
        (lambda: shift_matmul(X, P, S, blocks=(8, 16)), r"blocks=\(8, 16\): expected two powers of two from 16 upwards"),
        (lambda: shift_matmul(Z, P, S, variant="arithmetic", blocks=(1, 3)), r"blocks=\(1, 3\): .* two from 1 upwards"),
        (lambda: shift_matmul(X, P, S, spans=0), "spans=0: expected at least 1"),
        (lambda: shift_matmul(X, P, S, backend="gpu"), "backend='gpu': expected one of"),
        (lambda: shift_matmul(X.bfloat16(), P, S, backend="triton"), "x has dtype torch.bfloat16: expected float32 or float16"),
    ],
)
def test_a_bad_argument_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
