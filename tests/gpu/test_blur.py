"""The blur kernel in the interpreter (or on a GPU) against float64, its errors, and its compilation without a GPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.blur import blur, blur_reference

linux = pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")
TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}
SHAPES = [((1,), 1), ((5,), 3), ((64,), 25), ((3, 37), 11), ((2, 3, 17), 5), ((4, 33), 1), ((9,), 41)]


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=run.generator(name), dtype=torch.float64).to(dtype)


def brute_force(x, k, boundary):
    y, n, radius = torch.zeros_like(x), x.shape[-1], len(k) // 2
    for i in range(n):
        for lag in range(-radius, radius + 1):
            j = (i - lag) % n if boundary == "wrap" else i - lag
            if 0 <= j < n:
                y[..., i] += k[lag + radius] * x[..., j]
    return y


@pytest.fixture
def poisoned(monkeypatch):
    """Fresh memory is NaN, so that an output that is never written shows."""
    empty_like = torch.empty_like
    monkeypatch.setattr(torch, "empty_like", lambda x, **options: empty_like(x, **options).fill_(torch.nan))


@pytest.mark.parametrize("boundary", ["zero", "wrap"])
@pytest.mark.parametrize("shape, taps", SHAPES)
def test_reference_is_the_definition(shape, taps, boundary):
    x, k = draw("x", *shape), draw("k", taps)
    assert torch.allclose(blur_reference(x, k, boundary=boundary), brute_force(x, k, boundary), atol=1e-13)


def test_reference_convolves_as_numpy_does():
    x, k = draw("x", 30), draw("k", 7)
    assert np.allclose(blur_reference(x, k).numpy(), np.convolve(x.numpy(), k.numpy(), mode="same"), atol=1e-13)


@linux
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("boundary", ["zero", "wrap"])
@pytest.mark.parametrize("shape, taps", SHAPES)
def test_kernel_is_the_reference_in_float64(poisoned, shape, taps, boundary, dtype):
    x, k = draw("x", *shape, dtype=dtype), draw("k", taps, dtype=dtype)
    y = blur(x.to(run.device), k.to(run.device), boundary=boundary, backend="triton", block=16).cpu()
    exact = blur_reference(x.double(), k.double(), boundary=boundary)
    scale = float(k.abs().sum() * x.abs().max())
    assert y.dtype == dtype and y.shape == x.shape
    assert float((y - exact).abs().max()) <= TOLERANCE[dtype] * scale


@linux
def test_kernel_never_reads_or_writes_beyond_the_signal():
    around = torch.full((48,), torch.nan, device=run.device)
    around[16:32] = 1
    y = blur(around[16:32], torch.ones(9, device=run.device), backend="triton", block=32)
    assert torch.isfinite(y).all() and y.max() == 9 and y[0] == 5


def test_auto_on_the_cpu_does_not_need_triton():
    imports = "import sys; import torch; from kernelbook.gpu.blur import blur; "
    program = imports + "blur(torch.ones(5), torch.ones(3)); print('triton' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@linux
def test_triton_on_the_cpu_needs_the_interpreter():
    program = "import torch; from kernelbook.gpu.blur import blur; blur(torch.ones(5), torch.ones(3), backend='triton')"
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert done.returncode and "ValueError: backend='triton' with x on cpu: expected CUDA tensors" in done.stderr


COMPILE = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from kernelbook.gpu.blur import jitted
for dtype in ("fp32", "fp64"):
    for wrap in (False, True):
        signature = dict.fromkeys(("x_ptr", "k_ptr", "y_ptr"), f"*{dtype}") | dict.fromkeys(("size", "n", "radius"), "i32")
        signature |= dict(WRAP="constexpr", BLOCK="constexpr")
        for arch in (80, 90):
            made = compile(ASTSource(jitted(), signature, dict(WRAP=wrap, BLOCK=1024)), target=GPUTarget("cuda", arch, 32))
            assert made.asm["cubin"] and made.metadata.shared <= 163 * 1024
            print(dtype, wrap, arch, f".target sm_{arch}" in made.asm["ptx"])
"""


@linux
def test_kernel_compiles_without_a_gpu(tmp_path):
    env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", COMPILE], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8 and all(line.endswith("True") for line in lines)


@pytest.mark.parametrize(
    "x, k, options, said",
    [
        (torch.ones(4), torch.ones(3), {"boundary": "mirror"}, "boundary='mirror': expected one of"),
        (torch.ones(4), torch.ones(3), {"backend": "cuda"}, "backend='cuda': expected one of"),
        (torch.ones(4), torch.ones(3), {"block": 48}, "block=48: expected a power of two"),
        (torch.ones(4), torch.ones(3), {"block": 0}, "block=0: expected a power of two"),
        (torch.tensor(1.0), torch.ones(3), {}, r"x has shape \(\): expected"),
        (torch.ones(2, 0), torch.ones(3), {}, r"x has shape \(2, 0\): expected"),
        (torch.ones(4), torch.ones(4), {}, r"k has shape \(4,\): expected one axis of odd length"),
        (torch.ones(4), torch.ones(1, 3), {}, r"k has shape \(1, 3\): expected one axis"),
        (torch.ones(4), torch.ones(3).double(), {}, "dtypes torch.float32 and torch.float64: expected both"),
        (torch.ones(4).half(), torch.ones(3).half(), {}, "dtypes torch.float16"),
        (torch.ones(4), torch.ones(3, device="meta"), {}, "x is on cpu and k on meta: expected one device"),
        (torch.ones(4, 6).T, torch.ones(3), {}, r"x has strides \(1, 6\): expected contiguous"),
        (torch.ones(4), torch.ones(6)[::2], {}, r"k has strides \(2,\): expected contiguous"),
    ],
)
def test_a_bad_argument_is_named(x, k, options, said):
    with pytest.raises(ValueError, match=said):
        blur(x, k, **options)
