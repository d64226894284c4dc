"""Shift-invariant kernels as matrices: Toeplitz (zeros beyond the ends) and circulant (a ring), dense and by FFT."""

import torch

BOUNDARIES = ("zero", "wrap")


def toeplitz_matrix(k: torch.Tensor, n: int, *, center: int | None = None, boundary: str = "zero") -> torch.Tensor:
    """The n x n matrix K[i, j] = k(i - j), so that K @ x convolves x with k.

    k: (..., m) real weights; k[..., center] is lag 0, the entries after it are lags 1, 2, ...
    center: m // 2 where not given (a kernel around zero); 0 for a causal kernel.
    boundary: "zero" gives a Toeplitz matrix, with 0 where k has no entry; "wrap" the circulant one, where lags count
    modulo n: a kernel longer than the ring is wrapped onto it and summed (periodized).
    Returns (..., n, n) with the dtype and device of k; differentiable in k.
    Raises ValueError for an empty k, n < 1, a center outside k, an unknown boundary.
    Source: Gray, Toeplitz and Circulant Matrices (2006), chapters 3 and 4.
    """
    center = _checked(k, n, center, boundary)
    index = torch.arange(n, device=k.device)
    lag = index[:, None] - index[None, :]
    if boundary == "wrap":
        return _on_ring(k, n, center)[..., lag % n]
    place = lag + center
    held = (place >= 0) & (place < k.shape[-1])
    return torch.where(held, k[..., place.clamp(0, k.shape[-1] - 1)], 0)


def toeplitz_matmul(k: torch.Tensor, x: torch.Tensor, *, center: int | None = None, boundary: str = "zero") -> torch.Tensor:
    """The product toeplitz_matrix(k, n) @ x by FFT, in O(n log n) and without the matrix.

    k: (..., m), x: (..., n) along the last axis; the leading axes broadcast; both of one real floating dtype
    (float32 or float64) and on one device. center and boundary as in `toeplitz_matrix`.
    Returns (..., n); differentiable in k and x. For the matrix with entries c(j - i) pass `c.flip(-1)`.
    Raises ValueError for what `toeplitz_matrix` refuses and for dtypes that differ or are not real floating.
    Source: Golub and Van Loan, Matrix Computations (4th ed.), section 4.8.
    """
    n = x.shape[-1] if x.dim() else 0
    center = _checked(k, n, center, boundary)
    if k.dtype != x.dtype or k.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"k and x have dtypes {k.dtype} and {x.dtype}: expected both float32 or both float64")
    # No lag beyond n - 1 meets the signal, so a ring of 2n - 1 positions is enough to keep the ends apart.
    size = n if boundary == "wrap" else 2 * n - 1
    if boundary == "zero":
        first, last = max(center - n + 1, 0), min(center + n, k.shape[-1])
        k, center = k[..., first:last], center - first
    product = torch.fft.rfft(_on_ring(k, size, center)) * torch.fft.rfft(x, size)
    return torch.fft.irfft(product, size)[..., :n]


def _on_ring(k: torch.Tensor, n: int, center: int) -> torch.Tensor:
    """k wrapped onto n positions with lag 0 first; entries that meet are summed."""
    place = (torch.arange(k.shape[-1], device=k.device) - center) % n
    return k.new_zeros(*k.shape[:-1], n).index_add(-1, place, k)


def _checked(k: torch.Tensor, n: int, center: int | None, boundary: str) -> int:
    """The center in use, once every argument has been found sound."""
    if k.dim() < 1 or k.shape[-1] < 1:
        raise ValueError(f"k has shape {tuple(k.shape)}: expected at least one weight along the last axis")
    if n < 1:
        raise ValueError(f"n={n}: expected at least one position (the last axis of x, where x is given)")
    if boundary not in BOUNDARIES:
        raise ValueError(f"boundary={boundary!r}: expected one of {BOUNDARIES}")
    if center is None:
        return k.shape[-1] // 2
    if not 0 <= center < k.shape[-1]:
        raise ValueError(f"center={center}: expected an index into the {k.shape[-1]} weights of k")
    return center
