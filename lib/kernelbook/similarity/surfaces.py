"""Surfaces as meshes and as clouds of points: tangent frames, and Laplacians of functions and of vector fields on them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from scipy import sparse


def furthest_points(X: torch.Tensor, count: int, start: int = 0) -> torch.Tensor:
    """Indices (count,) of points far from one another: each next one is the furthest from all before it.

    X: (n, d); start: index of the first.
    Raises ValueError for a count outside 1..n, or a start that is no index.
    Source: Gonzalez (1985); rvgp, its choice of sensors and inducing points.
    """
    if X.dim() != 2 or not 1 <= count <= len(X) or not 0 <= start < len(X):
        raise ValueError(f"X has shape {tuple(X.shape)}, count={count!r}, start={start!r}: expected (n, d), 1 to n, 0 to n - 1")
    chosen = [start]
    nearest = (X - X[start]).square().sum(1)
    for _ in range(count - 1):
        chosen.append(int(nearest.argmax()))
        nearest = torch.minimum(nearest, (X - X[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)


def tangent_frames(X: torch.Tensor, neighbors: int, dimension: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Orthonormal tangent frames by local principal components, and what share of the variance each component explains.

    X: (n, D) points; neighbors: how many nearest points of each are used, without itself; dimension d of the surface.
    Returns frames (n, D, d), columns orthonormal, signs as they come, and shares (n, min(neighbors, D)), largest first.
    Raises ValueError unless 1 <= d <= min(neighbors, D) and neighbors < n.
    Source: rvgp, section 3.1 (singular vectors of the differences to the neighbors).
    """
    if X.dim() != 2 or not 1 <= dimension <= min(neighbors, X.shape[-1]) or not neighbors < len(X):
        raise ValueError(
            f"X has shape {tuple(X.shape)}, neighbors={neighbors!r}, dimension={dimension!r}: "
            "expected (n, D), fewer neighbors than points, a dimension of at most both neighbors and D"
        )
    distance = torch.cdist(X, X, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(torch.inf)
    near = distance.topk(neighbors, largest=False).indices
    _, singular, V = torch.linalg.svd(X[near] - X[:, None], full_matrices=False)
    variance = singular.square()
    return V[:, :dimension].mT.contiguous(), variance / variance.sum(1, keepdim=True).clamp_min(torch.finfo(X.dtype).tiny)


def connection_laplacian(frames: torch.Tensor, A: sparse.spmatrix | sparse.sparray) -> sparse.csr_array:
    """Connection Laplacian (n d, n d) of a graph with frames: blocks deg_i I on the diagonal, -A_ij O_ij off it.

    frames: (n, D, d), orthonormal columns; A: (n, n) symmetric, sparse, nothing on the diagonal.
    O_ij = U V^T out of the SVD T_i^T T_j = U S V^T is the rotation (or reflection) nearest to T_i^T T_j, which carries tangent
    coordinates from j to i.  Row i d + a is coordinate a at point i.
    Raises ValueError where A does not fit the frames or is not symmetric.
    Source: rvgp, section 3.1; Singer and Wu (2012), section 2.
    """
    from scipy import sparse

    n, _, d = frames.shape
    edges = sparse.coo_array(A)
    if edges.shape != (n, n) or abs(edges - edges.T).max() > 0 or edges.diagonal().any():
        raise ValueError(f"A has shape {edges.shape}: expected a symmetric ({n}, {n}) with nothing on the diagonal")
    i, j = (torch.from_numpy(index).long() for index in edges.coords)
    U, _, V = torch.linalg.svd(frames[i].mT @ frames[j])
    weights = torch.from_numpy(edges.data).to(frames.dtype)
    blocks = -weights[:, None, None] * (U @ V)
    rows, columns = (d * index[:, None, None] for index in (i, j))
    a = torch.arange(d)
    place: Any = [t.expand_as(blocks).reshape(-1).numpy() for t in (rows + a[:, None], columns + a)]
    off = sparse.coo_array((blocks.reshape(-1).numpy(), place), shape=(n * d, n * d))
    degrees = edges.sum(1).repeat(d)  # NumPy: each d times
    return sparse.csr_array(off + sparse.diags_array(degrees))


def cotangent_laplacian(vertices: torch.Tensor, faces: torch.Tensor) -> tuple[sparse.csr_array, torch.Tensor]:
    """Stiffness matrix W (n, n) and lumped mass (n,) of a triangle mesh: the Laplacian's eigenpairs solve W u = lambda mass u.

    vertices: (n, 3) floating; faces: (f, 3) indices.  W_ij = -(cot a + cot b) / 2 for the two angles that face edge ij, rows sum
    to 0; the mass of a vertex is a third of the area of its triangles, in squared units of the vertices.
    Raises ValueError for other shapes, an index out of range, or a triangle without area.
    Source: Pinkall and Polthier (1993); Meyer et al. (2003), section 3.3, with barycentric areas.
    """
    from scipy import sparse

    n = len(vertices)
    if vertices.dim() != 2 or vertices.shape[1] != 3 or faces.dim() != 2 or faces.shape[1] != 3:
        raise ValueError(
            f"vertices have shape {tuple(vertices.shape)}, faces {tuple(faces.shape)}: expected (n, 3) and (f, 3), indices"
        )
    if not len(faces) or faces.min() < 0 or faces.max() >= n:
        raise ValueError(f"faces name other vertices than 0 to {n - 1}, or none: expected indices of vertices")
    corner = vertices.double()[faces]
    twice = torch.linalg.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0]).norm(dim=1)
    if not (twice > 0).all():
        raise ValueError(f"faces[{int(twice.argmin())}] has no area: expected triangles")
    rows, columns, values = [], [], []
    for k in range(3):
        i, j = faces[:, (k + 1) % 3], faces[:, (k + 2) % 3]
        u, v = corner[:, (k + 1) % 3] - corner[:, k], corner[:, (k + 2) % 3] - corner[:, k]
        # the cotangent of the angle at corner k weighs the edge that it faces
        half = 0.5 * (u * v).sum(1) / twice
        rows += [i, j, i, j]
        columns += [j, i, i, j]
        values += [-half, -half, half, half]
    place: Any = [torch.cat(t).numpy() for t in (rows, columns)]
    W = sparse.coo_array((torch.cat(values).numpy(), place), shape=(n, n)).tocsr()
    mass = torch.zeros(n, dtype=torch.float64).index_add_(0, faces.reshape(-1), (twice / 6).repeat_interleave(3))
    return W, mass
