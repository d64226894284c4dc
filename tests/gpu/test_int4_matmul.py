"""Product with 4-bit weights: the format, PyTorch's own kernel on the same codes, fixed order of summation, bad arguments."""

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.int4_matmul import MAGIC, dequantize_int4, int4_matmul, int4_matmul_reference, pack_int4, unpack_int4
from kernelbook.gpu.registry import normal

linux = pytest.mark.skipif("sys.platform != 'linux'")
BACKENDS = ["reference", pytest.param("triton", marks=linux)]
each_backend = pytest.mark.parametrize("backend", BACKENDS)


def draw(m, k, n, group, dtype=torch.float32):
    generator = run.generator("int4")
    q = torch.randint(16, (k, n), generator=generator)
    x, scales = normal(generator, dtype, m, k), normal(generator, dtype, k // group, n)
    return tuple(t.to(run.device) for t in (x, q, scales))


def test_every_code_in_every_place_survives_the_packing():
    every = torch.arange(16).repeat(8, 1)  # column c has code c in all eight places
    one = torch.cat([torch.where(torch.arange(8)[:, None] == b, every, 15 - every) for b in range(8)])
    for q in (every, one):
        packed = pack_int4(q)
        assert packed.dtype == torch.int32 and packed.shape == (len(q) // 8, 16)
        assert torch.equal(unpack_int4(packed), q.int())
    # the eighth code stands on the sign bit
    assert pack_int4(torch.tensor([0, 0, 0, 0, 0, 0, 0, 8])[:, None]).item() == -(2**31)
    assert pack_int4(torch.arange(8)[:, None]).item() == 0x76543210


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64])
def test_codes_of_any_integer_dtype_are_packed(dtype):
    q = torch.arange(16).view(8, 2)
    assert torch.equal(unpack_int4(pack_int4(q.to(dtype))), q.int())


@pytest.mark.parametrize("dtype", MAGIC)
def test_magic_number_turns_a_code_into_a_float_by_one_or(dtype):
    magic, bias = MAGIC[dtype]
    q = torch.arange(16, dtype=torch.int32)
    bits = (q | magic).to(torch.int32 if dtype == torch.float32 else torch.int16)
    assert torch.equal((bits.view(dtype) - bias).double(), q.double() - 8)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dequantized_weights_are_the_definition(dtype):
    _, q, scales = draw(1, 96, 5, 48, dtype)
    w = dequantize_int4(pack_int4(q), scales, group=48)
    for k in range(96):
        assert torch.equal(w[k], scales[k // 48] * (q[k] - 8).to(dtype))


@each_backend
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("group", [16, 32])
def test_kernel_dequantizes_every_code_in_every_place_exactly(dtype, group, backend):
    """X is the identity: out come the weights themselves."""
    q = (torch.arange(32)[:, None] + torch.arange(16)) % 16
    scales = torch.tensor([1.0, 0.5])[: 32 // group, None].repeat(1, 16)
    x, packed, scales = (t.to(run.device) for t in (torch.eye(32, dtype=dtype), pack_int4(q), scales.to(dtype)))
    y = int4_matmul(x, packed, scales, group=group, backend=backend, blocks=(32, 16), spans=2)
    assert torch.equal(y, dequantize_int4(packed, scales, group=group))


def test_columns_beyond_one_chunk_of_the_reference_are_right():
    x, q, scales = draw(3, 64, 523, 32, torch.float64)
    packed = pack_int4(q)
    assert torch.allclose(
        int4_matmul_reference(x, packed, scales, group=32), x @ dequantize_int4(packed, scales, group=32), atol=1e-12
    )


@linux
@pytest.mark.skipif(run.device.type == "cuda", reason="the CPU's kernel")
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_pytorchs_own_kernel_gives_the_same_on_the_same_codes(dtype, tolerance, group):
    x, q, scales = draw(5, 256, 64, group, dtype)
    theirs = torch.ops.aten._convert_weight_to_int4pack_for_cpu(q.T.contiguous().int(), 1)
    points = torch.stack([scales, torch.zeros_like(scales)], -1)
    wanted = torch.ops.aten._weight_int4pack_mm_for_cpu(x, theirs, group, points)
    y = int4_matmul(x, pack_int4(q), scales, group=group, backend="reference")
    assert y.dtype == dtype and (y - wanted).abs().max() <= tolerance * wanted.abs().max()
    if dtype != torch.bfloat16:
        y = int4_matmul(x, pack_int4(q), scales, group=group, backend="triton", spans=2)
        assert (y - wanted).abs().max() <= tolerance * wanted.abs().max()


@linux
def test_one_scale_a_column_and_default_tiles():
    x, q, scales = draw(5, 256, 130, 256)
    packed = pack_int4(q)
    y = int4_matmul(x, packed, scales, group=256, backend="triton")
    assert torch.allclose(y, x @ dequantize_int4(packed, scales, group=256), atol=1e-3)


@linux
def test_spans_are_added_in_the_same_order_every_time():
    x, q, scales = draw(5, 256, 40, 16)
    packed = pack_int4(q)
    first, again, whole = (
        int4_matmul(x, packed, scales, group=16, backend="triton", blocks=(16, 64), spans=s) for s in (7, 7, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, whole) and torch.allclose(first, whole, atol=1e-3)


@linux
def test_halves_are_summed_in_float32():
    q = torch.full((4096, 1), 9)
    packed, scales = pack_int4(q).to(run.device), torch.ones(32, 1, dtype=torch.float16, device=run.device)
    x = torch.full((1, 4096), 1 + 2**-10, dtype=torch.float16, device=run.device)
    # summed in float16 the total would stop growing at 2048, where one more is half of the last place
    assert int4_matmul(x, packed, scales, backend="triton").item() == 4100


X, P, S = torch.ones(3, 64), torch.zeros(8, 5, dtype=torch.int32), torch.ones(2, 5)


@pytest.mark.parametrize(
    "call, said",
    [
        (lambda: pack_int4(torch.ones(8, 2)), "q is torch.float32: expected a tensor of integers"),
        (lambda: pack_int4([1]), "q is list: expected a tensor of integers"),
        (lambda: pack_int4(torch.zeros(12, 2, dtype=torch.int64)), r"q has shape \(12, 2\): expected .* multiple of 8"),
        (lambda: pack_int4(torch.full((8, 1), 16)), "q has codes from 16 to 16: expected 0 to 15"),
        (lambda: pack_int4(torch.full((8, 1), -1)), "q has codes from -1 to -1: expected 0 to 15"),
        (lambda: unpack_int4(P.long()), "packed has dtype torch.int64: expected int32"),
        (lambda: unpack_int4(P[0]), r"packed has shape \(5,\): expected"),
        (lambda: dequantize_int4(P, S.int(), group=32), "scales has dtype torch.int32: expected"),
        (lambda: dequantize_int4(P, S), "group=128: expected a multiple of 16 that divides K = 64"),
        (lambda: int4_matmul(X, P, S, group=24), "group=24: expected a multiple of 16"),
        (lambda: int4_matmul(X, P, S, group=0), "group=0: expected a multiple of 16"),
        (lambda: int4_matmul(X, P, S, group=64), r"scales has shape \(2, 5\): expected \(1, 5\), one row per group of 64"),
        (lambda: int4_matmul(X, P, S.half(), group=32), "scales has dtype torch.float16: expected torch.float32, as x"),
        (lambda: int4_matmul(X.double(), P, S.double(), group=32), "x has dtype torch.float64: expected"),
        (lambda: int4_matmul(X[:, :32].contiguous(), P, S, group=32), r"x has shape \(3, 32\): expected \(M, 64\)"),
        (lambda: int4_matmul(X[:0], P, S, group=32), r"x has shape \(0, 64\): expected"),
        (lambda: int4_matmul(X[0], P, S, group=32), r"x has shape \(64,\): expected"),
        (lambda: int4_matmul(X, P.mT.contiguous().mT, S, group=32), r"packed has strides \(1, 8\): expected contiguous"),
        (lambda: int4_matmul(X, P.to("meta"), S, group=32), "packed is on meta: expected cpu, where scales is"),
        (lambda: int4_matmul(X, P, S, group=32, blocks=(8, 16)), r"blocks=\(8, 16\): expected two powers of two"),
        (lambda: int4_matmul(X, P, S, group=32, blocks=(16, 48)), r"blocks=\(16, 48\): expected two powers of two"),
        (lambda: int4_matmul(X, P, S, group=32, spans=0), "spans=0: expected at least 1"),
        (lambda: int4_matmul(X, P, S, group=32, backend="gpu"), "backend='gpu': expected one of"),
        (lambda: int4_matmul(X.bfloat16(), P, S.bfloat16(), group=32, backend="triton"), "x has dtype torch.bfloat16: expected"),
    ],
)
def test_a_bad_argument_is_named(call, said):
    with pytest.raises(ValueError, match=said):
        call()
