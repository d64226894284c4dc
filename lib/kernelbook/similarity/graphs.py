"""Graphs of points and kernels on graphs: neighbors, Laplacians, heat, and k-means that needs nothing but a Gram matrix."""

import math
from typing import Any

import torch

from kernelbook.gpu.bessel import log_iv
from kernelbook.similarity.gram import points


def knn_graph(X: torch.Tensor, k: int, *, weights: str = "one", bandwidth: float | None = None) -> Any:
    """The graph in which two points are joined where either is among the k nearest neighbors of the other.

    X: (n, d) floating, with n > k.  k: neighbors of a point, the point itself not counted.
    weights: "one"; "length", the Euclidean distance, for shortest paths (equal points get the smallest positive number, since
    a sparse matrix has no edge of length zero); or "gaussian", exp(-length^2 / (2 bandwidth^2)).
    Returns a symmetric scipy.sparse CSR array (n, n) of float64 without a diagonal.
    Raises ValueError for X that is not rows of points, a k that is not between 1 and n - 1, unknown weights, and a bandwidth
    that is missing, not positive, or given where nothing is done with it.
    """
    from scipy import sparse, spatial

    X, _ = points(X)
    n = len(X)
    if not isinstance(k, int) or not 1 <= k < n:
        raise ValueError(f"k={k!r}: expected a whole number from 1 to {n - 1}, one less than the points")
    if weights not in ("one", "length", "gaussian"):
        raise ValueError(f"weights={weights!r}: expected one, length or gaussian")
    if (weights == "gaussian") != (bandwidth is not None) or not (bandwidth is None or 0 < bandwidth < math.inf):
        raise ValueError(f"bandwidth={bandwidth!r}: expected a positive finite number with weights='gaussian', else None")
    values = X.detach().cpu().double()
    length, neighbor = (torch.from_numpy(a) for a in spatial.KDTree(values.numpy()).query(values.numpy(), k + 1))
    # a point's own entry goes; where copies of it have crowded that out, the last entry goes
    own = neighbor == torch.arange(n)[:, None]
    own[:, -1] |= ~own.any(1)
    length, neighbor = length[~own].clamp_min(torch.finfo(torch.float64).tiny), neighbor[~own]
    if weights == "one":
        length = torch.ones_like(length)
    elif bandwidth is not None:
        length = torch.exp(-0.5 * (length / bandwidth) ** 2)
    rows = torch.arange(n).repeat_interleave(k)
    directed = sparse.csr_array((length.numpy(), (rows.numpy(), neighbor.numpy())), shape=(n, n))
    return directed.maximum(directed.T).tocsr()


def laplacian(A: Any, *, normalized: bool = False) -> Any:
    """Laplacian of a weighted graph: D - A, or where normalized I - D^(-1/2) A D^(-1/2), with D the sums of the rows of A.

    A: symmetric weights (n, n) from 0 upwards, a floating tensor or a scipy.sparse matrix; its diagonal is left out.
    Returns what it was given: a tensor of A's dtype, or a scipy.sparse CSR array of float64.
    A node without edges gets a row of zeros.
    Raises ValueError where A is not square, not symmetric, or has a negative entry.
    Source: Chung (1997), Spectral Graph Theory, section 1.2.
    """
    from scipy import sparse

    if sparse.issparse(A):
        A = sparse.csr_array(A, dtype=float)
        _square("A", A.shape)
        worst, lowest = abs(A - A.T).max() if A.nnz else 0.0, A.min() if A.nnz else 0.0
        largest = abs(A).max() if A.nnz else 0.0
    else:
        _square_tensor("A", A)
        B = A.detach() if A.numel() else torch.zeros(1, 1)
        worst, lowest, largest = float((B - B.mT).abs().max()), float(B.min()), float(B.abs().max())
    if not worst <= 1e-6 * largest:
        raise ValueError(f"A differs from its transpose by {worst:.3g}: expected symmetric weights without NaN")
    if lowest < 0:
        raise ValueError(f"A has the entry {lowest:.3g}: expected weights from 0 upwards")
    if sparse.issparse(A):
        return sparse.csr_array(sparse.csgraph.laplacian(A, normed=normalized))
    A = A - torch.diag(A.diagonal())
    degree = A.sum(1)
    if not normalized:
        return torch.diag(degree) - A
    root = torch.where(degree > 0, degree, 1.0).rsqrt()
    return torch.diag((degree > 0).to(A.dtype)) - root[:, None] * A * root


def heat_kernel(L: Any, t: float | torch.Tensor) -> torch.Tensor:
    """Heat kernel exp(-t L) of a graph from the eigenvectors of its Laplacian: exact, for small graphs.

    L: symmetric (n, n), a floating tensor or a scipy.sparse matrix (taken as float64).
    t: times from 0 upwards, a number or a tensor (m,).  Returns (n, n), or (m, n, n), in L's dtype.
    The error is a few units of rounding of the *largest* entries: what lies below about 1e-15 in float64 is noise, of either
    sign, so a logarithm needs a floor there.
    Raises ValueError where L is not square and floating, or a time is negative or not finite.
    """
    from scipy import sparse

    if sparse.issparse(L):
        L = torch.from_numpy(L.toarray()).double()
    _square_tensor("L", L)
    times = torch.as_tensor(t, dtype=L.dtype, device=L.device)
    if times.dim() > 1 or not bool(((times >= 0) & (times < math.inf)).all()):
        raise ValueError(f"t={t!r}: expected a finite number from 0 upwards, or a tensor (m,) of such")
    eigenvalues, U = torch.linalg.eigh(L)
    return (U * torch.exp(-times[..., None, None] * eigenvalues)) @ U.mT


def chebyshev_expm(L: Any, B: torch.Tensor, t: float, order: int, *, bound: float | None = None) -> torch.Tensor:
    """exp(-t L) B from `order` products with L: the Chebyshev series of exp on the interval that holds L's eigenvalues.

    L: symmetric positive semi-definite (n, n), a tensor (dense or sparse) or a scipy.sparse matrix.  t: from 0 upwards.
    B: (n,) or (n, m) floating, whose dtype the result keeps; with a tensor L differentiable in L and B.
    bound: a number that no eigenvalue of L exceeds; by default the largest row sum of |L|.  For a normalized Laplacian give 2.
    The error is at most |B| times the sum of the coefficients left out: in float64 it is rounding from an order of about
    6 sqrt(t bound) + 8 on.  It is an absolute error, so what is small in the result is noise.
    Raises ValueError where shapes do not fit, t is negative or not finite, order below 0, or bound not positive.
    Source: Hammond, Vandergheynst and Gribonval (2011), section 6; coefficients in closed form, with log I_k.
    """
    from scipy import sparse

    scipys = sparse.issparse(L)
    _square("L", L.shape)
    if not isinstance(B, torch.Tensor) or B.dim() not in (1, 2) or not B.is_floating_point() or len(B) != L.shape[0]:
        got = f"{B.dtype} of shape {tuple(B.shape)}" if isinstance(B, torch.Tensor) else type(B).__name__
        raise ValueError(f"B is {got}: expected a floating tensor ({L.shape[0]},) or ({L.shape[0]}, m)")
    if not 0 <= t < math.inf:
        raise ValueError(f"t={t!r}: expected a finite number from 0 upwards")
    if not isinstance(order, int) or order < 0:
        raise ValueError(f"order={order!r}: expected a whole number from 0 upwards")
    if bound is None:
        bound = float(abs(L).sum(1).max()) if scipys or not L.is_sparse else float(torch.sparse.sum(abs(L), 1).to_dense().max())
        bound = bound or 1.0  # a graph without edges: any interval will do
    if not 0 < bound < math.inf:
        raise ValueError(f"bound={bound!r}: expected a positive finite number")

    def product(V: torch.Tensor) -> torch.Tensor:
        # the interval from 0 to bound becomes the one from -1 to 1
        return 2 / bound * (torch.from_numpy(L @ V.detach().numpy()).to(B.dtype) if scipys else L @ V) - V

    z = torch.tensor(t * bound / 2, dtype=torch.float64)
    k = torch.arange(order + 1, dtype=torch.float64)
    coefficients = torch.exp(log_iv(k, z) - z) * torch.where(k % 2 == 0, 2.0, -2.0)
    before, now = torch.zeros_like(B), B
    total = coefficients[0] / 2 * B
    for i in range(1, order + 1):
        before, now = now, (1 if i == 1 else 2) * product(now) - before
        total = total + coefficients[i] * now
    return total.to(B.dtype)


def kernel_kmeans(
    K: torch.Tensor, clusters: int, generator: torch.Generator, *, starts: int = 10, rounds: int = 50
) -> tuple[torch.Tensor, torch.Tensor]:
    """k-means in the feature space of a Gram matrix, by Lloyd's rounds from several random starts.

    K: symmetric (n, n), or a batch (b, n, n) that is worked on together; it need not be positive semi-definite, in which case
    a round may raise the inertia and rounds may cycle: hence the cap, and the best partition seen is kept.
    generator: draws the `clusters` points of each start, on the device of K.
    Returns labels (n,) or (b, n), int64, and their inertia () or (b,): the sum of squared distances to the cluster means.
    Raises ValueError where K is not square, floating and finite, clusters is not between 1 and n, starts or rounds below 1.
    Source: Dhillon, Guan and Kulis (2004), Kernel k-means, algorithm 1.
    """
    _square_tensor("K", K, batch=True)
    n = K.shape[-1]
    if not bool(K.isfinite().all()):
        raise ValueError("K has entries that are not finite: expected finite ones")
    for name, value, most in (("clusters", clusters, n), ("starts", starts, math.inf), ("rounds", rounds, math.inf)):
        if not isinstance(value, int) or not 1 <= value <= most:
            raise ValueError(f"{name}={value!r}: expected a whole number from 1 to {most}")
    G = K.reshape(-1, 1, n, n)
    diagonal = G.diagonal(dim1=-2, dim2=-1)
    keys = torch.rand(len(G), starts, n, generator=generator, dtype=K.dtype, device=K.device)
    seeds = keys.topk(clusters, -1).indices
    near = G.expand(-1, starts, -1, -1).gather(2, seeds[..., None].expand(-1, -1, -1, n))
    labels = (diagonal.expand(-1, starts, -1).gather(2, seeds)[..., None] - 2 * near).argmin(2)
    best, found = torch.full((len(G),), math.inf, dtype=K.dtype, device=K.device), labels[:, 0].clone()
    active, before = torch.arange(len(G), device=K.device), torch.full(labels.shape[:2], math.inf, dtype=K.dtype, device=K.device)
    classes = torch.arange(clusters, device=K.device)[:, None]
    for _ in range(rounds):
        member = (labels[:, :, None] == classes).to(K.dtype)  # (active, starts, clusters, n)
        size = member.sum(3)
        cross = (member.flatten(1, 2) @ G[active, 0]).view_as(member) / size.clamp_min(1)[..., None]
        within = (member * cross).sum(3)  # size times the squared length of each mean
        inertia = diagonal[active].sum(-1) - within.sum(-1)
        least, start = inertia.min(1)
        better = least < best[active]
        best[active[better]] = least[better]
        found[active[better]] = labels[better, start[better]]
        # where no start has come down since the last round, nothing more is to be had
        going = (inertia < before).any(1)
        if not bool(going.any()):
            break
        length = torch.where(size > 0, within / size.clamp_min(1), math.inf)  # an empty cluster stays empty
        active, before = active[going], inertia[going]
        labels = (length[..., None] - 2 * cross)[going].argmin(2)
    return found.reshape(K.shape[:-1]), best.reshape(K.shape[:-2])


def _square(name: str, shape: Any) -> None:
    if len(shape) != 2 or shape[0] != shape[1]:
        raise ValueError(f"{name} has shape {tuple(shape)}: expected a square matrix (n, n)")


def _square_tensor(name: str, value: Any, *, batch: bool = False) -> None:
    if not isinstance(value, torch.Tensor) or not value.is_floating_point():
        got = str(value.dtype) if isinstance(value, torch.Tensor) else type(value).__name__
        raise ValueError(f"{name} is {got}: expected a floating tensor (n, n)")
    if value.dim() not in ((2, 3) if batch else (2,)) or value.shape[-1] != value.shape[-2]:
        raise ValueError(f"{name} has shape {tuple(value.shape)}: expected a square matrix (n, n)")
