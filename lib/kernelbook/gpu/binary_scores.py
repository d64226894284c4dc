r"""Scores of binary codes: s[i, j] = d - 2 (number of places where q[i] and k[j] differ), 32 places to a word.

That is the scalar product of two vectors of d signs, +1 for a bit that is set and -1 for one that is not.
"""

# mypy: allow-untyped-defs
# (the pointers and blocks of a kernel have no Python types)

from __future__ import annotations  # lets the kernel below name tl before Triton has been imported

from typing import TYPE_CHECKING, Any

import torch

from kernelbook.gpu.launch import check_tensors, launch, uses_triton
from kernelbook.gpu.registry import Bench, Case, Inputs, Kernel, Target, Work, register

if TYPE_CHECKING:
    import triton.language as tl

MOST_BATCHES = 65535  # programs along an axis of the grid other than its first


def pack_bits(bits: torch.Tensor) -> torch.Tensor:
    """Bits as words of 32: bit t of word w is bits[..., 32 w + t], and the bits beyond the end are 0.

    bits: bool (..., d), such as q > q.mean() for shiftaddvit's codes.  Returns int32 (..., ceil(d / 32)).
    Raises ValueError naming the argument that does not fit.
    """
    check_tensors((torch.bool,), bits=bits)
    if bits.dim() < 1 or bits.shape[-1] == 0:
        raise ValueError(f"bits has shape {tuple(bits.shape)}: expected (..., d) with d at least 1")
    d = bits.shape[-1]
    padded = torch.nn.functional.pad(bits, (0, -d % 32)).view(*bits.shape[:-1], -(-d // 32), 32)
    return (padded.int() << torch.arange(32, dtype=torch.int32, device=bits.device)).sum(-1, dtype=torch.int32)


def popcount(x: torch.Tensor) -> torch.Tensor:
    """The number of ones in each word, by adding neighbors: bits to pairs, pairs to fours, fours to bytes, bytes to words.

    x: int32.  Returns int32, 0 to 32.
    Source: Warren, Hacker's Delight, figure 5-2.
    """
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    # the top byte of this product is the sum of the four bytes
    return (x * 0x01010101) >> 24


def binary_scores_reference(q_words: torch.Tensor, k_words: torch.Tensor, d: int) -> torch.Tensor:
    """The scores in plain torch, a word at a time.  q_words: (..., m, w), k_words: (..., n, w).  Returns int32 (..., m, n)."""
    differ = torch.zeros(*q_words.shape[:-1], k_words.shape[-2], dtype=torch.int32, device=q_words.device)
    for w in range(q_words.shape[-1]):
        differ += popcount(q_words[..., :, None, w] ^ k_words[..., None, :, w])
    return d - 2 * differ


def popcount_block(x):
    """popcount of a block, in the kernel."""
    # the shifts bring the sign in from the left; the masks take it out again
    x = x - ((x >> 1) & 0x55555555)
    x = (x & 0x33333333) + ((x >> 2) & 0x33333333)
    x = (x + (x >> 4)) & 0x0F0F0F0F
    return (x * 0x01010101) >> 24


HELPERS = (popcount_block,)  # as plain functions: at the first launch the name above comes to stand for the compiled one


def binary_scores_kernel(q_ptr, k_ptr, s_ptr, m, n, words, d, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """The Triton kernel: a BLOCK_M x BLOCK_N tile of the scores of one batch a program."""
    batch = tl.program_id(2).to(tl.int64)
    i = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)[:, None]
    j = tl.program_id(1).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
    # differ[i, j]: places in which q[i] and k[j] differ
    differ = tl.zeros((BLOCK_M, BLOCK_N), tl.int32)
    for w in range(words):
        q = tl.load(q_ptr + (batch * m + i) * words + w, mask=i < m)
        k = tl.load(k_ptr + (batch * n + j) * words + w, mask=j < n)
        differ += popcount_block(q ^ k)
    tl.store(s_ptr + (batch * m + i) * n + j, d - 2 * differ, mask=(i < m) & (j < n))


def binary_scores(
    q_words: torch.Tensor, k_words: torch.Tensor, d: int, *, backend: str = "auto", blocks: tuple[int, int] = (64, 64)
) -> torch.Tensor:
    """Scores of all pairs of binary codes, d - 2 popcount(q xor k), as a GPU kernel.

    q_words: (..., m, ceil(d / 32)), k_words: (..., n, ceil(d / 32)) int32 as pack_bits gives them, contiguous, with the same
    leading axes, nothing empty.  d: bits of a code; those beyond it must be equal in all words.
    blocks: rows and columns of a tile, powers of two.
    backend: "auto" takes Triton if and only if the tensors are on CUDA; "triton" on the CPU needs the interpreter.
    Returns int32 (..., m, n): -d where the codes differ everywhere, d where they are equal.  No gradient.
    The ones that two codes share, the score of codes of 0 and 1, are (s - d) / 4 + (popcount(q) + popcount(k)) / 2.
    Raises ValueError naming the argument that does not fit, RuntimeError where Triton is asked for and missing.
    Source: shiftaddvit, binary attention (Hamming distance of binarized q and k).
    """
    check_tensors((torch.int32,), q_words=q_words, k_words=k_words)
    if q_words.dim() < 2 or q_words.numel() == 0:
        raise ValueError(f"q_words has shape {tuple(q_words.shape)}: expected (..., m, words) with nothing empty")
    *lead, m, words = q_words.shape
    if k_words.dim() != q_words.dim() or [*k_words.shape[:-2], k_words.shape[-1]] != [*lead, words] or not k_words.numel():
        wanted = ", ".join(map(str, [*lead, "n", words]))
        raise ValueError(f"k_words has shape {tuple(k_words.shape)}: expected ({wanted}) to go with q_words, nothing empty")
    if not isinstance(d, int) or -(-d // 32) != words:
        raise ValueError(f"d={d!r}: expected {32 * words - 31} to {32 * words}, the bits of a code in {words} words of 32")
    if len(blocks) != 2 or any(s < 1 or s & (s - 1) for s in blocks):
        raise ValueError(f"blocks={blocks!r}: expected two powers of two")
    if not uses_triton(backend, q_words):
        return binary_scores_reference(q_words, k_words, d)
    n, batches = k_words.shape[-2], q_words.numel() // (m * words)
    if batches > MOST_BATCHES:
        raise ValueError(f"q_words has shape {tuple(q_words.shape)}: expected at most {MOST_BATCHES} batches with Triton")
    s = torch.empty(*lead, m, n, dtype=torch.int32, device=q_words.device)
    tiles: Any = dict(zip(("BLOCK_M", "BLOCK_N"), blocks, strict=True))
    grid = (-(-m // blocks[0]), -(-n // blocks[1]), batches)
    launch(binary_scores_kernel, grid, q_words, k_words, s, m, n, words, d, helpers=HELPERS, num_warps=8, **tiles)
    return s


def _codes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return pack_bits(torch.randint(2, shape, generator=generator).bool())


def _case(lead: tuple[int, ...], m: int, n: int, d: int) -> Case:
    def make(generator, dtype):
        return dict(q_words=_codes(generator, *lead, m, d), k_words=_codes(generator, *lead, n, d), d=d)

    return Case(f"{lead}, {m} x {n}, {d} bits", make, tuning=dict(blocks=(8, 16)))


def _bench(batches: int, length: int, d: int):
    def make(generator, dtype, device):
        q, k = (_codes(generator, batches, length, d).to(device) for _ in range(2))
        return dict(q_words=q, k_words=k, d=d)

    return make


def _work(inputs: Inputs) -> Work:
    q, k = inputs["q_words"], inputs["k_words"]
    return Work(bytes=4 * (q.numel() + k.numel() + q.shape[0] * q.shape[1] * k.shape[1]))


def _signs(words: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    bits = words[..., None] >> torch.arange(32, dtype=torch.int32, device=words.device) & 1
    return (2 * bits - 1).flatten(-2).to(dtype)


def _floating(dtype: torch.dtype):
    """The product of the signs; d is a multiple of 32 in the benchmarks."""

    def prepare(inputs):
        q, k = _signs(inputs["q_words"], dtype), _signs(inputs["k_words"], dtype)
        return lambda: q @ k.mT

    return prepare


def _int_mm(inputs: Inputs):
    q, k = (_signs(inputs[name], torch.int8) for name in ("q_words", "k_words"))
    return lambda: (
        torch.stack([torch._int_mm(a, b.T) for a, b in zip(q, k, strict=True)]) if len(q) > 1 else torch._int_mm(q[0], k[0].T)
    )


def _target(aligned: tuple[str, ...]) -> Target:
    kinds = dict.fromkeys(("q_ptr", "k_ptr", "s_ptr"), "*i32") | dict.fromkeys(("m", "n", "words", "d"), "i32")
    return Target(binary_scores_kernel, kinds, dict(BLOCK_M=64, BLOCK_N=64), helpers=HELPERS, warps=8, aligned=aligned)


PEERS: dict[str, Any] = {"torch float16": _floating(torch.float16), "torch._int_mm": _int_mm}

register(
    Kernel(
        name="binary_scores",
        formula="s[i, j] = d - 2 popcount(q[i] xor k[j])",
        launcher=binary_scores,
        reference=binary_scores_reference,
        kernels=(binary_scores_kernel, *HELPERS),
        cases=(
            _case((), 11, 19, 37),
            _case((2, 3), 3, 5, 64),
            _case((2,), 9, 17, 70),
            _case((), 1, 1, 1),
        ),
        tolerance={torch.float64: 0.0},  # of the label that the maker is given; all inputs are integers
        targets=(_target(("m", "n")), _target(())),
        benches=(
            Bench("8,192 x 8,192, 64 bits", _bench(1, 1 << 13, 64), torch.int32, _work, PEERS),
            Bench("8,192 x 8,192, 1,024 bits", _bench(1, 1 << 13, 1024), torch.int32, _work, PEERS),
            Bench(
                "512 x 512, 64 bits",
                _bench(1, 512, 64),
                torch.int32,
                _work,
                {"torch float32": _floating(torch.float32)},
                ("cpu",),
            ),
        ),
    )
)
