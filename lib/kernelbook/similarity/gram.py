"""Gram matrices of standard similarity kernels: every pair of rows compared, (n, d) and (m, d) in, (n, m) out."""

import math

import torch

from kernelbook.similarity.duals import arc_cosine_dual


def gaussian(X: torch.Tensor, Z: torch.Tensor | None = None, *, bandwidth: float) -> torch.Tensor:
    """Gaussian kernel exp(-|x - z|^2 / (2 bandwidth^2)).

    X: (n, d), Z: (m, d) or None for X itself; one floating dtype, which the result keeps.  Returns (n, m).
    Raises ValueError for a bandwidth that is not a positive number, and for points that do not fit together.
    Source: Rasmussen and Williams (2006), equation 4.9.
    """
    X, Z = points(X, Z)
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth={bandwidth!r}: expected a positive finite number")
    # |x|^2 + |z|^2 - 2 x.z cancels for near points, so the differences are taken first
    distance = torch.cdist(X, Z, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.exp(-0.5 * (distance / bandwidth) ** 2)


def laplacian(X: torch.Tensor, Z: torch.Tensor | None = None, *, bandwidth: float) -> torch.Tensor:
    """Laplacian kernel exp(-|x - z| / bandwidth), with the Euclidean norm: Matérn's with smoothness 1/2.

    X: (n, d), Z: (m, d) or None for X itself; one floating dtype, which the result keeps.  Returns (n, m).
    Raises ValueError for a bandwidth that is not a positive number, and for points that do not fit together.
    Source: Rasmussen and Williams (2006), equation 4.18.
    """
    return matern(X, Z, bandwidth=bandwidth, smoothness=0.5)


def matern(X: torch.Tensor, Z: torch.Tensor | None = None, *, bandwidth: float, smoothness: float) -> torch.Tensor:
    """Matérn kernel p(s) exp(-s), s = sqrt(2 smoothness) |x - z| / bandwidth: its processes have derivatives below `smoothness`.

    X: (n, d), Z: (m, d) or None for X itself; one floating dtype, which the result keeps.  Returns (n, m).
    smoothness: 1/2 (p = 1), 3/2 (p = 1 + s) or 5/2 (p = 1 + s + s^2 / 3).
    Raises ValueError for a bandwidth that is not a positive number, another smoothness, and points that do not fit together.
    Source: Rasmussen and Williams (2006), equations 4.14 and 4.17.
    """
    X, Z = points(X, Z)
    if not 0 < bandwidth < math.inf:
        raise ValueError(f"bandwidth={bandwidth!r}: expected a positive finite number")
    if smoothness not in (0.5, 1.5, 2.5):
        raise ValueError(f"smoothness={smoothness!r}: expected 0.5, 1.5 or 2.5")
    distance = torch.cdist(X, Z, compute_mode="donot_use_mm_for_euclid_dist")
    s = math.sqrt(2 * smoothness) * distance / bandwidth
    factor = 1 + (smoothness > 1) * s + (smoothness > 2) * s**2 / 3
    return factor * torch.exp(-s)


def polynomial(
    X: torch.Tensor, Z: torch.Tensor | None = None, *, degree: int, offset: float = 1.0, scale: float = 1.0
) -> torch.Tensor:
    """Polynomial kernel (scale x.z + offset)^degree: with offset > 0, all products of up to `degree` features.

    X: (n, d), Z: (m, d) or None for X itself; one floating dtype, which the result keeps.  Returns (n, m).
    Raises ValueError for a degree that is not a whole number from 1, an offset below 0 or a scale not above 0
    (the kernel would not be positive semi-definite), and for points that do not fit together.
    Source: Rasmussen and Williams (2006), section 4.2.2.
    """
    X, Z = points(X, Z)
    if not isinstance(degree, int) or degree < 1:
        raise ValueError(f"degree={degree!r}: expected a whole number from 1 upwards")
    if not 0 <= offset < math.inf:
        raise ValueError(f"offset={offset!r}: expected a finite number from 0 upwards")
    if not 0 < scale < math.inf:
        raise ValueError(f"scale={scale!r}: expected a positive finite number")
    return (scale * (X @ Z.mT) + offset) ** degree


def arc_cosine(X: torch.Tensor, Z: torch.Tensor | None = None, *, order: int) -> torch.Tensor:
    """Arc-cosine kernel (|x||z|)^order kappa_order(cosine): twice the Gram matrix of infinitely many random ReLU units.

    X: (n, d), Z: (m, d) or None for X itself; one floating dtype, which the result keeps.  Returns (n, m).
    order: 0 (step units) or 1 (ReLU units).  A zero row has cosine 0 with everything, itself too.
    Raises ValueError for another order, and for points that do not fit together.
    Source: Cho and Saul (2009), equations 3 to 6.
    """
    X, Z = points(X, Z)
    product = X.norm(dim=1)[:, None] * Z.norm(dim=1)
    cosine = X @ Z.mT / product.clamp_min(torch.finfo(X.dtype).tiny)
    if Z is X:
        cosine = torch.where(torch.eye(len(X), dtype=torch.bool, device=X.device) & (product > 0), 1.0, cosine)
    return product**order * arc_cosine_dual(order, cosine)


def points(X: torch.Tensor, Z: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """X and Z (X where None), once found to be rows of points that can be compared.

    Raises ValueError where one is not a floating matrix (n, d), or where d or the dtypes differ.
    """
    for name, value in (("X", X), ("Z", X if Z is None else Z)):
        if not isinstance(value, torch.Tensor) or value.dim() != 2 or not value.is_floating_point():
            got = f"{value.dtype} of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise ValueError(f"{name} is {got}: expected a floating tensor (points, features)")
    if Z is None:
        return X, X
    if X.shape[1] != Z.shape[1] or X.dtype != Z.dtype:
        raise ValueError(f"Z has {Z.shape[1]} features of {Z.dtype}: expected {X.shape[1]} of {X.dtype}, as in X")
    return X, Z
