"""Random features: maps phi with E[phi(x).phi(z)] = k(x, z), each normalized by the root of the number of features."""

import math

import torch


def orthogonal_gaussian(rows: int, d: int, generator: torch.Generator, *, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Rows that are N(0, I_d) each and orthogonal within blocks of d: (rows, d).

    A block is a Haar-distributed rotation, its rows scaled by independent chi variables of d degrees of freedom.
    Raises ValueError for a count below 1.
    Source: Yu et al. (2016), section 3; Mezzadri (2007), section 5: without its signs, a QR decomposition is not Haar.
    """
    for name, value in (("rows", rows), ("d", d)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name}={value!r}: expected a whole number from 1 upwards")
    blocks = []
    for _ in range(-(-rows // d)):
        q, r = torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=dtype))
        lengths = torch.randn(d, d, generator=generator, dtype=dtype).norm(dim=1)
        blocks.append(lengths[:, None] * (q * r.diagonal().sign()).mT)
    return torch.cat(blocks)[:rows]


def fourier_features(X: torch.Tensor, frequencies: torch.Tensor, phases: torch.Tensor | None = None) -> torch.Tensor:
    """Fourier features: (n, 2 m) cosines and sines of X W^T, or, with phases, (n, m) values sqrt(2) cos(X W^T + b).

    X: (n, d); frequencies W: (m, d); phases b: (m,), uniform on [0, 2 pi) for an unbiased kernel.  One floating dtype.
    With W ~ N(0, I / bandwidth^2) the kernel is the Gaussian one; then |phi(x)| is 1, or at most sqrt(2) with phases.
    Raises ValueError where shapes or dtypes do not fit.
    Source: Rahimi and Recht (2007), algorithm 1.
    """
    angles = _projected(X, frequencies, "frequencies")
    if phases is None:
        return torch.cat([angles.cos(), angles.sin()], 1) / math.sqrt(len(frequencies))
    if phases.shape != frequencies.shape[:1] or phases.dtype != X.dtype:
        expected = f"({len(frequencies)},) of {X.dtype}"
        raise ValueError(f"phases is {phases.dtype} of shape {tuple(phases.shape)}: expected {expected}")
    return (angles + phases).cos() * math.sqrt(2 / len(frequencies))


def positive_features(X: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Positive features exp(X G^T - |x|^2 / 2) / sqrt(m) of the kernel exp(x.z): (n, m).

    X: (n, d); directions G: (m, d), each row N(0, I).  One floating dtype.
    Raises ValueError where shapes or dtypes do not fit.
    Source: Choromanski et al. (2021), lemma 1.
    """
    exponents = _projected(X, directions, "directions") - 0.5 * X.square().sum(1, keepdim=True)
    return exponents.exp() / math.sqrt(len(directions))


def relu_features(X: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """ReLU features relu(X G^T) / sqrt(m): (n, m); with rows N(0, I), half the arc-cosine kernel of order 1.

    X: (n, d); directions G: (m, d).  One floating dtype.
    Raises ValueError where shapes or dtypes do not fit.
    Source: Cho and Saul (2009), equation 1.
    """
    return _projected(X, directions, "directions").relu() / math.sqrt(len(directions))


def _projected(X: torch.Tensor, directions: torch.Tensor, name: str) -> torch.Tensor:
    if X.dim() != 2 or not X.is_floating_point():
        raise ValueError(f"X is {X.dtype} of shape {tuple(X.shape)}: expected a floating tensor (points, features)")
    if directions.dim() != 2 or directions.shape[1] != X.shape[1] or directions.dtype != X.dtype or not len(directions):
        expected = f"(1 or more, {X.shape[1]}) of {X.dtype}"
        raise ValueError(f"{name} is {directions.dtype} of shape {tuple(directions.shape)}: expected {expected}")
    return X @ directions.mT
