"""The blur beyond what its registration tests: the reference, the ends of the signal, when Triton is needed, bad arguments."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.blur import SHAPES, blur, blur_reference

linux = pytest.mark.skipif(sys.platform != "linux", reason="Triton exists for Linux only")


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


@pytest.mark.parametrize("boundary", ["zero", "wrap"])
@pytest.mark.parametrize("shape, taps", SHAPES)
def test_reference_is_the_definition(shape, taps, boundary):
    x, k = draw("x", *shape), draw("k", taps)
    assert torch.allclose(blur_reference(x, k, boundary=boundary), brute_force(x, k, boundary), atol=1e-13)


def test_reference_convolves_as_numpy_does():
    x, k = draw("x", 30), draw("k", 7)
    assert np.allclose(blur_reference(x, k).numpy(), np.convolve(x.numpy(), k.numpy(), mode="same"), atol=1e-13)


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
    assert done.returncode and "ValueError: backend='triton' with tensors on cpu: expected CUDA tensors" in done.stderr


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
        (torch.ones(4), torch.ones(3).double(), {}, "k has dtype torch.float64: expected torch.float32, as x"),
        (torch.ones(4).half(), torch.ones(3).half(), {}, "x has dtype torch.float16: expected float32 or float64"),
        (torch.ones(4), torch.ones(3, device="meta"), {}, "k is on meta: expected cpu, where x is"),
        (torch.ones(4, 6).T, torch.ones(3), {}, r"x has strides \(1, 6\): expected contiguous"),
        (torch.ones(4), torch.ones(6)[::2], {}, r"k has strides \(2,\): expected contiguous"),
    ],
)
def test_a_bad_argument_is_named(x, k, options, said):
    with pytest.raises(ValueError, match=said):
        blur(x, k, **options)
