"""Dual activations: what a layer of infinitely many random units does to a Gram matrix."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Dual = Callable[..., torch.Tensor]


def arc_cosine_dual(order: int, cosine: torch.Tensor) -> torch.Tensor:
    """kappa_0 = (pi - t) / pi or kappa_1 = (sin t + (pi - t) cos t) / pi at t = acos(cosine), scaled to 1 at cosine 1.

    cosine: any shape, floating; rounding beyond [-1, 1] is clamped.  Returns the same shape and dtype.
    Its autograd derivative is infinite for order 0 and undefined for order 1 at a cosine of exactly -1 or 1.
    Raises ValueError for an order other than 0 and 1.
    Source: Cho and Saul (2009), equations 5 and 6, divided by their value at 0 (pi).
    """
    if order not in (0, 1):
        raise ValueError(f"order={order!r}: expected 0 (step) or 1 (ReLU)")
    cosine = cosine.clamp(-1, 1)
    if order == 0:
        return 1 - torch.acos(cosine) / math.pi
    # (1 - c)(1 + c) keeps the digits that 1 - c^2 loses near the ends
    sine = torch.sqrt((1 - cosine) * (1 + cosine))
    return cosine + (sine - torch.acos(cosine) * cosine) / math.pi


def dual_activation(name: str) -> tuple[Dual, Dual]:
    """The two Gaussian expectations of an activation phi: E[phi(u) phi(v)] and E[phi'(u) phi'(v)].

    name: relu, erf (closed forms), tanh or gelu (Gauss-Hermite quadrature).
    Each returned function takes (covariance, variance_u=1, variance_v=1), tensors that broadcast, where (u, v) is a
    centered Gaussian pair; with the variances left out it is the dual on [-1, 1].
    Raises ValueError for another name.
    Source: Cho and Saul (2009) for relu; Williams (1997), equation 11, for erf.
    """
    if name not in _DUALS:
        raise ValueError(f"name={name!r}: expected one of {', '.join(_DUALS)}")
    return _DUALS[name]


def gram_to_gram(
    gram: torch.Tensor, variance_x: torch.Tensor | None = None, variance_z: torch.Tensor | None = None, *, activation: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """One layer on a Gram matrix: (E[phi(u) phi(v)], E[phi'(u) phi'(v)]) for every pair (u, v) of covariance `gram`.

    gram: (n, m) floating; variance_x: (n,), variance_z: (m,), the variances of u and of v.  Where both are left out,
    gram is square and they are its diagonal.  Returns two (n, m).
    Raises ValueError for an unknown activation and for shapes that do not fit.
    """
    phi, slope = dual_activation(activation)
    if variance_x is None and variance_z is None:
        if gram.dim() != 2 or gram.shape[0] != gram.shape[1]:
            raise ValueError(f"gram has shape {tuple(gram.shape)}: expected a square matrix where no variances are given")
        variance_x = variance_z = gram.diagonal()
    if variance_x is None or variance_z is None or gram.shape != (*variance_x.shape, *variance_z.shape):
        shapes = [None if v is None else tuple(v.shape) for v in (variance_x, variance_z)]
        raise ValueError(f"variance_x and variance_z have shapes {shapes}: expected one entry per row and per column of gram")
    pair = variance_x[:, None], variance_z[None, :]
    return phi(gram, *pair), slope(gram, *pair)


def quadrature_dual(function: Callable[[torch.Tensor], torch.Tensor], nodes: int = 64) -> Dual:
    """The dual E[function(u) function(v)] of a smooth function by a product Gauss-Hermite rule of nodes^2 points.

    Returns a function of (covariance, variance_u=1, variance_v=1).  At variance 1, 64 nodes give erf and gelu to rounding
    and tanh to about 1e-8; variances above 2 want more nodes, and a kink wants a closed form.
    Raises ValueError where nodes is not a whole number from 2 upwards.
    """
    if not isinstance(nodes, int) or nodes < 2:
        raise ValueError(f"nodes={nodes!r}: expected a whole number from 2 upwards")
    place, weight = (torch.from_numpy(a) for a in np.polynomial.hermite.hermgauss(nodes))
    place, weight = place * math.sqrt(2), weight / math.sqrt(math.pi)

    def dual(covariance: Any, variance_u: Any = 1.0, variance_v: Any = 1.0) -> torch.Tensor:
        c, p, q = _gaussian_pair(covariance, variance_u, variance_v)
        u = p.sqrt().unsqueeze(-1) * place.to(c)
        along = (c / p.sqrt().clamp_min(torch.finfo(c.dtype).tiny)).unsqueeze(-1)
        rest = (q.unsqueeze(-1) - along**2).clamp_min(0).sqrt()
        total = torch.zeros_like(c)
        # one node of the second axis at a time: nodes values per entry in memory, not nodes squared
        for z, w in zip(place.tolist(), weight.tolist(), strict=True):
            total += w * (function(u) * function(along * place.to(c) + rest * z) * weight.to(c)).sum(-1)
        return total

    return dual


def _gaussian_pair(covariance: Any, variance_u: Any, variance_v: Any) -> tuple[torch.Tensor, ...]:
    """Covariance and variances as floating tensors of one shape."""
    c = torch.as_tensor(covariance)
    c = c if c.is_floating_point() else c.double()
    return torch.broadcast_tensors(c, torch.as_tensor(variance_u).to(c), torch.as_tensor(variance_v).to(c))


def _cosine(c: torch.Tensor, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Correlation of the pair, exactly 1 or -1 where it is so up to rounding; 0 where a variance is 0."""
    size = torch.sqrt(p * q)
    cosine = c / size.clamp_min(torch.finfo(c.dtype).tiny)
    # acos turns one unit in the last place near 1 into 1e-8
    return torch.where((cosine.abs() - 1).abs() <= 8 * torch.finfo(c.dtype).eps, cosine.sign(), cosine)


def _relu(covariance: Any, variance_u: Any = 1.0, variance_v: Any = 1.0) -> torch.Tensor:
    c, p, q = _gaussian_pair(covariance, variance_u, variance_v)
    return torch.sqrt(p * q) * arc_cosine_dual(1, _cosine(c, p, q)) / 2


def _relu_slope(covariance: Any, variance_u: Any = 1.0, variance_v: Any = 1.0) -> torch.Tensor:
    return arc_cosine_dual(0, _cosine(*_gaussian_pair(covariance, variance_u, variance_v))) / 2


def _erf(covariance: Any, variance_u: Any = 1.0, variance_v: Any = 1.0) -> torch.Tensor:
    c, p, q = _gaussian_pair(covariance, variance_u, variance_v)
    return 2 / math.pi * torch.asin(2 * c / torch.sqrt((1 + 2 * p) * (1 + 2 * q)))


def _erf_slope(covariance: Any, variance_u: Any = 1.0, variance_v: Any = 1.0) -> torch.Tensor:
    c, p, q = _gaussian_pair(covariance, variance_u, variance_v)
    return 4 / math.pi / torch.sqrt((1 + 2 * p) * (1 + 2 * q) - 4 * c**2)


def _normal_cdf(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def _gelu_slope(x: torch.Tensor) -> torch.Tensor:
    return _normal_cdf(x) + x * torch.exp(-0.5 * x**2) / math.sqrt(2 * math.pi)


_DUALS: dict[str, tuple[Dual, Dual]] = {
    "relu": (_relu, _relu_slope),
    "erf": (_erf, _erf_slope),
    "tanh": (quadrature_dual(torch.tanh), quadrature_dual(lambda x: 1 - torch.tanh(x) ** 2)),
    "gelu": (quadrature_dual(lambda x: x * _normal_cdf(x)), quadrature_dual(_gelu_slope)),
}
