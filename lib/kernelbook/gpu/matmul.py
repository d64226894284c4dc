r"""Matrix product: C[i, j] = sum over k of A[i, k] B[k, j], one program for each tile of C."""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, normal, register

if TYPE_CHECKING:
    import triton.language as tl

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
PRECISIONS = ("ieee", "tf32")


def matmul_reference(a: torch.Tensor, b: torch.Tensor, *, precision: str = "ieee") -> torch.Tensor:
    """The product in plain torch.  a: (m, k), b: (k, n).  Returns (m, n)."""
    return a @ b


def matmul_kernel(
    a_ptr, b_ptr, c_ptr, M, N, K, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr
):
    """The Triton kernel: a BLOCK_M x BLOCK_N tile of C a program, BLOCK_K of the sum at a time; all matrices row by row."""
    # i, j: rows and columns of the tile of C; k: the part of the sum at hand
    i = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    j = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    k = tl.arange(0, BLOCK_K)
    # C[i, j] = sum over k of A[i, k] B[k, j], summed in float32 whatever A and B are
    c = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        left = K - start
        a = tl.load(a_ptr + i * K + start + k[None, :], mask=(i < M) & (k[None, :] < left), other=0.0)
        b = tl.load(b_ptr + (start + k[:, None]) * N + j, mask=(k[:, None] < left) & (j < N), other=0.0)
        c = tl.dot(a, b, c, input_precision=PRECISION)
    tl.store(c_ptr + i * N + j, c.to(c_ptr.dtype.element_ty), mask=(i < M) & (j < N))


def matmul(
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    precision: str = "ieee",
    backend: str = "auto",
    blocks: tuple[int, int, int] = (128, 128, 32),
) -> torch.Tensor:
    """A @ B as a GPU kernel, tile by tile, summed in float32.

    a: (m, k), b: (k, n) float32, float16 or bfloat16 (that one on CUDA only: the interpreter has it wrong), contiguous.
    precision: "ieee", or "tf32" for float32 products rounded to 11 bits on tensor cores (the interpreter ignores it).
    blocks: rows, columns and depth of a tile, powers of two from 16 upwards.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns (m, n), a new tensor of their dtype.  No gradient: for training use a @ b.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: Triton tutorial 3.
    """
    check_tensors(DTYPES, a=a, b=b)
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"b has shape {tuple(b.shape)}: expected (k, n) to follow a of shape {tuple(a.shape)} as (m, k)")
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: expected one of {PRECISIONS}")
    if len(blocks) != 3 or any(s < 16 or s & (s - 1) for s in blocks):
        raise ValueError(f"blocks={blocks!r}: expected three powers of two from 16 upwards")
    if not uses_triton(backend, a):
        return matmul_reference(a, b)
    if a.dtype == torch.bfloat16 and not a.is_cuda:
        raise ValueError(
            "a has dtype torch.bfloat16: expected float32 or float16, Triton's interpreter computes bfloat16 wrongly"
        )
    (m, k), n = a.shape, b.shape[1]
    c = torch.empty(m, n, dtype=a.dtype, device=a.device)
    grid = (-(-m // blocks[0]), -(-n // blocks[1]))
    tiles: Any = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True))
    if c.numel():
        launch(matmul_kernel, grid, a, b, c, m, n, k, PRECISION=precision, **tiles, num_warps=8)
    return c


def _case(m: int, k: int, n: int) -> Case:
    def make(generator, dtype):
        return dict(a=normal(generator, dtype, m, k), b=normal(generator, dtype, k, n))

    return Case(f"{m} x {k} x {n}", make, tuning=dict(blocks=(16, 16, 16)))


def _bench(generator, dtype, device):
    a, b = torch.randn(2, 4096, 4096, generator=generator).to(dtype).to(device)
    return dict(a=a, b=b)


def _work(inputs: Inputs) -> Work:
    (m, k), n = inputs["a"].shape, inputs["b"].shape[1]
    unit = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}[inputs["a"].dtype]
    unit = "tf32" if inputs.get("precision") == "tf32" else unit
    return Work(bytes=inputs["a"].element_size() * (m * k + k * n + m * n), flops=2 * m * n * k, unit=unit)


def _target(kind: str, precision: str, blocks: tuple[int, int, int]) -> Target:
    signature = dict(a_ptr=f"*{kind}", b_ptr=f"*{kind}", c_ptr=f"*{kind}", M="i32", N="i32", K="i32")
    tiles = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K"), blocks, strict=True))
    return Target(matmul_kernel, signature, dict(PRECISION=precision, **tiles), warps=8, aligned=("M", "N", "K"))


register(
    Kernel(
        name="matmul",
        formula="C[i, j] = sum_k A[i, k] B[k, j]",
        launcher=matmul,
        reference=matmul_reference,
        kernels=(matmul_kernel,),
        cases=(_case(19, 37, 23), _case(1, 1, 1), _case(16, 32, 16), _case(33, 5, 17), _case(2, 0, 3)),
        tolerance={torch.float32: 5e-7, torch.float16: 6e-4},
        scale=lambda inputs, exact: (inputs["a"].abs() @ inputs["b"].abs()).clamp_min(1e-300),
        targets=(
            _target("fp32", "ieee", (128, 128, 32)),
            _target("fp32", "tf32", (128, 128, 32)),
            _target("bf16", "ieee", (128, 128, 64)),
        ),
        equivalent={
            f"matmul_kernel: wrong value beyond the end: {line}": "the other factor is 0 there, and 0 times 1 is 0"
            for line in (
                "a = tl.load(a_ptr + i * K + start + k[None, :], mask=(i < M) & (k[None, :] < left), other=0.0)",
                "b = tl.load(b_ptr + (start + k[:, None]) * N + j, mask=(k[:, None] < left) & (j < N), other=0.0)",
            )
        },
        benches=tuple(
            Bench(
                f"4,096 cubed, {name}",
                make,
                dtype,
                _work,
                peers={"torch": lambda inputs: lambda: inputs["a"] @ inputs["b"]},
            )
            for name, dtype, make in (
                ("float32", torch.float32, _bench),
                ("float16", torch.float16, _bench),
                ("bfloat16", torch.bfloat16, _bench),
            )
        ),
    )
)
