"""Tangent kernels: the infinite-width limit, a finite network's own kernel, and training as a linear flow."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import _pytree as pytree

from kernelbook.similarity.duals import dual_activation, gram_to_gram
from kernelbook.similarity.gram import points


def nngp_ntk(
    X: torch.Tensor,
    Z: torch.Tensor | None = None,
    *,
    depth: int,
    sigma_w: float = 1.0,
    sigma_b: float = 0.0,
    activation: str = "relu",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Limits (Sigma, Theta) of a fully connected network in NTK parametrization: output covariance and tangent kernel.

    X: (n, d), Z: (m, d) or None for X itself.  depth: affine layers, so depth - 1 hidden ones.  sigma_w, sigma_b: scales
    in front of weights and biases (the paper's 1 and beta).  activation: a name that `dual_activation` knows.
    Returns two (n, m) in float64, whatever the dtype of X.
    Raises ValueError for a depth below 1, a negative scale, an unknown activation, points that do not fit together.
    Source: ntk (Jacot et al. 2018), proposition 1 and theorem 1.
    """
    X, Z = points(X, Z)
    if not isinstance(depth, int) or depth < 1:
        raise ValueError(f"depth={depth!r}: expected a whole number of affine layers, from 1 upwards")
    for name, value in (("sigma_w", sigma_w), ("sigma_b", sigma_b)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name}={value!r}: expected a finite number from 0 upwards")

    def affine(S: torch.Tensor) -> torch.Tensor:
        return sigma_w**2 * S + sigma_b**2

    phi, _ = dual_activation(activation)
    symmetric, X, Z = Z is X, X.double(), Z.double()
    Theta = Sigma = affine(X @ Z.mT / X.shape[1])
    # taken from Sigma itself where X is Z, so that a point's cosine with itself is exactly 1
    p, q = (Sigma.diagonal(),) * 2 if symmetric else (affine((A**2).mean(1)) for A in (X, Z))
    for _ in range(depth - 1):
        product, slopes = gram_to_gram(Sigma, p, q, activation=activation)
        Sigma, p, q = affine(product), affine(phi(p, p, p)), affine(phi(q, q, q))
        Theta = sigma_w**2 * Theta * slopes + Sigma
    return Sigma, Theta


def empirical_ntk(
    apply: Callable[[Any, torch.Tensor], torch.Tensor],
    params: Any,
    X: torch.Tensor,
    Z: torch.Tensor | None = None,
    *,
    chunk: int = 16,
) -> torch.Tensor:
    """Tangent kernel J(X) J(Z)^T of one network at its present parameters, J the Jacobian in all of them.

    apply(params, X): (n, d) inputs to (n,) or (n, c) outputs; params: a tensor, or lists, tuples, dicts of them.
    X: (n, ...), Z: (m, ...) or None for X itself.  chunk: inputs whose Jacobians are held at once (two chunks of
    chunk * c * parameters numbers).  Returns (n, m), or (n, m, c, c) where the network has c outputs.
    Raises ValueError for outputs of another shape and for a chunk below 1.
    Source: ntk (Jacot et al. 2018), section 4.
    """
    Z = X if Z is None else Z
    shape = apply(params, X[:1]).shape
    if len(shape) not in (1, 2) or shape[0] != 1:
        raise ValueError(f"apply gives shape {tuple(shape)} for one input: expected (1,) or (1, outputs)")
    if not isinstance(chunk, int) or chunk < 1:
        raise ValueError(f"chunk={chunk!r}: expected a whole number of inputs, from 1 upwards")
    rows = []
    for some in X.split(chunk):
        left = _jacobian(apply, params, some)
        blocks = [_contract(left, left if other is some else _jacobian(apply, params, other)) for other in Z.split(chunk)]
        rows.append(torch.cat(blocks, 1))
    return torch.cat(rows).reshape(len(X), len(Z), *shape[1:], *shape[1:])


def _jacobian(apply: Callable[..., torch.Tensor], params: Any, X: torch.Tensor) -> list[torch.Tensor]:
    """One (inputs, outputs, parameters) Jacobian per tensor of params."""

    def single(p: Any, x: torch.Tensor) -> torch.Tensor:
        return apply(p, x.unsqueeze(0)).squeeze(0).reshape(-1)

    leaves = pytree.tree_leaves(torch.func.vmap(torch.func.jacrev(single), (None, 0))(params, X))
    return [leaf.flatten(2) if leaf.dim() > 2 else leaf.unsqueeze(-1) for leaf in leaves]


def _contract(left: list[torch.Tensor], right: list[torch.Tensor]) -> torch.Tensor:
    return sum(torch.einsum("iap,jbp->ijab", a, b) for a, b in zip(left, right, strict=True))  # type: ignore[return-value]


def kernel_gradient_flow(
    Theta: torch.Tensor,
    y: torch.Tensor,
    f0: torch.Tensor,
    t: float,
    Theta_test: torch.Tensor | None = None,
    f0_test: torch.Tensor | None = None,
) -> torch.Tensor:
    """Outputs at time t of gradient flow on half the summed squared error, where the tangent kernel stays Theta.

    Theta: (..., n, n) symmetric; f0: (..., n), or (..., n, c) for c outputs, and y of a shape that broadcasts to it.
    With Theta_test (..., m, n) and f0_test (..., m[, c]) the outputs at m further points, else those at the n points.
    t: from 0 to infinity.  Directions of eigenvalue 0 (below n eps times the largest) do not learn.
    Raises ValueError for a negative t, shapes that do not fit, only one of Theta_test and f0_test.
    Source: ntk (Jacot et al. 2018), section 5.
    """
    rest, columns = _residual(Theta, y, f0, t)
    if (Theta_test is None) != (f0_test is None):
        raise ValueError("Theta_test and f0_test: expected both or neither")
    rate, vectors = torch.linalg.eigh(Theta)
    learns = rate > rate.shape[-1] * torch.finfo(rate.dtype).eps * rate[..., -1:]
    # (1 - exp(-rate t)) / rate, without a division by the rates that are 0
    gain = torch.where(learns, -torch.expm1(-rate.clamp_min(0) * t) / rate.where(learns, 1.0), 0.0)
    weights = vectors @ (gain.unsqueeze(-1) * (vectors.mT @ rest))
    change = (Theta if Theta_test is None else Theta_test) @ weights
    return (f0 if f0_test is None else f0_test) + (change if columns else change.squeeze(-1))


def _residual(Theta: torch.Tensor, y: torch.Tensor, f0: torch.Tensor, t: float) -> tuple[torch.Tensor, bool]:
    """y - f0 as columns (..., n, c), and whether f0 came with its outputs as columns."""
    if not t >= 0:
        raise ValueError(f"t={t!r}: expected a time from 0 upwards")
    shapes = f"Theta and f0 have shapes {tuple(Theta.shape)} and {tuple(f0.shape)}"
    if Theta.dim() < 2 or Theta.shape[-1] != Theta.shape[-2] or f0.dim() - Theta.dim() not in (-1, 0):
        raise ValueError(f"{shapes}: expected (n, n) and (n,) or (n, c)")
    columns = f0.dim() == Theta.dim()
    rest = (y - f0) if columns else (y - f0).unsqueeze(-1)
    if rest.shape[-2] != Theta.shape[-1]:
        raise ValueError(f"{shapes}: expected as many points in f0 as in Theta")
    return rest, columns
