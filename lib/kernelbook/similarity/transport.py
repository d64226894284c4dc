"""The two transport distances that networks are trained through; everything else about transport comes from POT."""

import math

import torch


def sinkhorn_log(
    cost: torch.Tensor,
    epsilon: float,
    steps: int,
    source: torch.Tensor | None = None,
    target: torch.Tensor | None = None,
) -> torch.Tensor:
    """Entropic transport plan (n, m) after `steps` rounds of Sinkhorn's scaling of rows and columns, in the log domain.

    cost: (n, m) floating; epsilon: weight of the entropy, in units of the cost; source: (n,), target: (m,) weights that sum to 1
    (None: equal ones).  The last scaling is of the columns, whose sums are exact.  Differentiable in cost and weights.
    Raises ValueError for an epsilon or a number of steps not above 0, and for shapes that do not fit.
    Source: Cuturi (2013), algorithm 1; Peyré and Cuturi (2019), section 4.4.
    """
    if cost.dim() != 2 or not 0 < epsilon < math.inf or not isinstance(steps, int) or steps < 1:
        raise ValueError(
            f"cost has shape {tuple(cost.shape)}, epsilon={epsilon!r}, steps={steps!r}: "
            "expected (n, m), a positive number and a whole number from 1 upwards"
        )
    sides = []
    for name, weights, size in (("source", source, cost.shape[0]), ("target", target, cost.shape[1])):
        if weights is not None and weights.shape != (size,):
            raise ValueError(f"{name} has shape {tuple(weights.shape)}: expected ({size},)")
        sides.append(cost.new_full((size,), -math.log(size)) if weights is None else weights.log())
    scores, row = -cost / epsilon, sides[0][:, None]
    column = torch.zeros_like(cost[:1])
    for _ in range(steps):
        potential = row - torch.logsumexp(scores + column, 1, keepdim=True)
        column = sides[1] - torch.logsumexp(scores + potential, 0, keepdim=True)
    return torch.exp(scores + potential + column)


def sliced_wasserstein(X: torch.Tensor, Y: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    """Sliced squared 2-Wasserstein distance of two clouds: the mean over directions of W_2^2 between their projections.

    X: (n, d), Y: (m, d), points of equal weight; directions: (l, d), any length, normalized here.  A scalar, differentiable.
    n and m may differ: the quantile functions are then compared on the steps of both.
    Raises ValueError where shapes do not fit or a cloud is empty.
    Source: Bonneel et al. (2015), section 3; Villani (2003), equation 2.47.
    """
    shapes = [tuple(t.shape) for t in (X, Y, directions)]
    if any(len(s) != 2 or s[0] < 1 or s[1] != X.shape[1] for s in shapes):
        raise ValueError(f"X, Y, directions have shapes {shapes}: expected (n, d), (m, d), (l, d), none empty")
    units = directions / directions.norm(dim=1, keepdim=True)
    a, b = ((points @ units.mT).sort(0).values for points in (X, Y))
    if len(a) == len(b):
        return (a - b).square().mean()
    # both quantile functions are constant between the steps i / n and j / m
    n, m = len(a), len(b)
    steps = torch.cat([m * torch.arange(n + 1), n * torch.arange(m + 1)]).unique()
    widths = steps.diff().to(a.dtype) / (n * m)
    return ((a[steps[:-1] // m] - b[steps[:-1] // n]).square() * widths[:, None]).sum(0).mean()
