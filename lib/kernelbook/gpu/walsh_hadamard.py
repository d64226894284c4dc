r"""The Walsh-Hadamard transform: y = H x with H[i, j] = (-1)^(number of ones in i AND j), rows of 2^m numbers.

H of size a b is the Kronecker product of those of sizes a and b: the reference applies factors of 16,
the kernel m factors of 2.
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import FLOATS, check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

FACTOR = 16  # rows of a factor in the reference
LONGEST = 1 << 15  # numbers that one program can hold in its registers


def hadamard(n: int, **options: Any) -> torch.Tensor:
    """The matrix H in its natural (Sylvester) order.  n: a power of two.  options: dtype, device.  Returns (n, n)."""
    H = torch.ones(1, 1, **options)
    while len(H) < n:
        H = torch.cat([torch.cat([H, H], 1), torch.cat([H, -H], 1)])
    return H


def fwht_reference(x: torch.Tensor) -> torch.Tensor:
    """The transform in plain torch: a product with a factor of H for every four bits of the index.  x: (..., 2^m)."""
    n, inner, y = x.shape[-1], 1, x
    while inner < n:
        a = min(FACTOR, n // inner)
        H = hadamard(a, dtype=x.dtype, device=x.device)
        # the a entries that lie `inner` apart are multiplied by H of size a, which is its own transpose
        y = y.reshape(-1, a) @ H if inner == 1 else H @ y.reshape(-1, a, inner)
        inner *= a
    return y.reshape(x.shape).clone() if y is x else y.reshape(x.shape)


def fwht_kernel(x_ptr, y_ptr, N: tl.constexpr, STAGES: tl.constexpr):
    """The Triton kernel: one row of N = 2^STAGES numbers a program, all of it in registers."""
    place = tl.program_id(0).to(tl.int64) * N + tl.arange(0, N)
    x = tl.load(x_ptr + place)
    for _ in tl.static_range(STAGES):
        # a, b: the halves, which differ in the top bit of the index; side by side, that bit has become the lowest,
        # so that after STAGES turns every bit has had its butterfly and the order is the first one again
        a, b = tl.split(tl.trans(tl.reshape(x, (2, N // 2))))
        x = tl.reshape(tl.join(a + b, a - b), (N,))
    tl.store(y_ptr + place, x)


class _Transform(torch.autograd.Function):
    """H is its own transpose, so the gradient is the transform of the gradient."""

    @staticmethod
    def forward(ctx, x):
        return _rows(x)

    @staticmethod
    def backward(ctx, upstream):
        return _Transform.apply(upstream.contiguous())


def _rows(x: torch.Tensor) -> torch.Tensor:
    n = x.shape[-1]
    if n > LONGEST:
        # H of size a b along (a, b): along b, then along a
        y = _rows(x.view(-1, LONGEST)).view(-1, n // LONGEST, LONGEST).mT.contiguous()
        return _rows(y).mT.reshape(x.shape)
    y = torch.empty_like(x)
    launch(fwht_kernel, (x.numel() // n,), x, y, N=n, STAGES=n.bit_length() - 1, num_warps=min(16, max(1, n // 512)))
    return y


def fwht(x: torch.Tensor, *, backend: str = "auto") -> torch.Tensor:
    """The Walsh-Hadamard transform H x along the last axis, unscaled: applied twice it multiplies by 2^m.

    x: (..., 2^m) float32 or float64, contiguous, nothing empty.  Differentiable, any number of times.
    backend: "auto" takes Triton if and only if x is on CUDA; "triton" on the CPU needs the interpreter.
    Returns (..., 2^m), a new tensor, in the natural order of scipy.linalg.hadamard.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: Fino and Algazi (1976); the constant shuffle is Pease's (1968).
    """
    check_tensors(FLOATS, x=x)
    if x.dim() < 1 or x.numel() == 0 or x.shape[-1] & (x.shape[-1] - 1):
        raise ValueError(f"x has shape {tuple(x.shape)}: expected (..., n) with n a power of two and nothing empty")
    if not uses_triton(backend, x):
        return fwht_reference(x)
    return _Transform.apply(x)


def _case(*shape: int, gradients: tuple[str, ...] = ()) -> Case:
    def make(generator, dtype):
        return dict(x=normal(generator, dtype, *shape))

    return Case(f"shape {shape}", make, gradients)


def _bench(generator, dtype, device):
    return dict(x=torch.randn(1 << 14, 1 << 13, generator=generator, dtype=dtype).to(device))


def _bench_cpu(generator, dtype, device):
    return dict(x=torch.randn(1 << 8, 1 << 13, generator=generator, dtype=dtype).to(device))


def _work(inputs: Inputs) -> Work:
    x = inputs["x"]
    return Work(bytes=8 * x.numel(), flops=x.numel() * (x.shape[-1].bit_length() - 1))


def _passes(inputs: Inputs):
    """The usual torch loop: one pass over memory for every bit."""
    x = inputs["x"]

    def transform():
        y, h = x, 1
        while h < x.shape[-1]:
            a, b = y.view(-1, x.shape[-1] // (2 * h), 2, h).unbind(2)
            y, h = torch.stack((a + b, a - b), 2).view(x.shape), 2 * h
        return y

    return transform


def _dense(inputs: Inputs):
    H = hadamard(inputs["x"].shape[-1], dtype=inputs["x"].dtype, device=inputs["x"].device)
    return lambda: inputs["x"] @ H


PEERS: dict[str, Any] = {"torch, one pass a bit": _passes, "torch, dense product": _dense}

register(
    Kernel(
        name="fwht",
        formula="y[i] = sum_j (-1)^popcount(i & j) x[j]",
        launcher=fwht,
        reference=fwht_reference,
        kernels=(fwht_kernel,),
        cases=(_case(3, 8, gradients=("x",)), _case(2, 1), _case(1, 2), _case(2, 3, 32), _case(256)),
        tolerance={torch.float32: 1e-6, torch.float64: 2e-15},
        targets=tuple(
            Target(fwht_kernel, dict(x_ptr=t, y_ptr=t), dict(N=1 << m, STAGES=m), warps=min(16, (1 << m) // 512))
            for t, m in (("*fp32", 13), ("*fp64", 12))
        ),
        benches=(
            Bench("16,384 rows of 8,192", _bench, torch.float32, _work, PEERS),
            Bench("256 rows of 8,192", _bench_cpu, torch.float32, _work, PEERS, devices=("cpu",)),
        ),
    )
)
