"""How alike two representations of the same points are: centered kernel alignment."""

import torch


def center(K: torch.Tensor) -> torch.Tensor:
    """H K H with H = I - 11ᵀ/n: the Gram matrix (..., n, n) of the same points about their mean."""
    return K - K.mean(-1, keepdim=True) - K.mean(-2, keepdim=True) + K.mean((-2, -1), keepdim=True)


def gram_cka(K: torch.Tensor, L: torch.Tensor) -> torch.Tensor:
    """Centered kernel alignment of two Gram matrices (..., n, n) on the same n points; from 0 to 1, differentiable.

    Raises ValueError where the matrices are not square, of different size, or on fewer than two points.
    Source: Cortes et al. (2012); Kornblith et al. (2019), section 3.
    """
    for name, G in (("K", K), ("L", L)):
        if G.dim() < 2 or G.shape[-1] != G.shape[-2] or G.shape[-1] < 2:
            raise ValueError(f"{name} has shape {tuple(G.shape)}: expected (..., n, n) with n of 2 or more")
    if K.shape[-1] != L.shape[-1]:
        raise ValueError(f"L is on {L.shape[-1]} points and K on {K.shape[-1]}: expected the same points")
    # ⟨HKH, HLH⟩ / (‖HKH‖ ‖HLH‖)
    A, B = center(K), center(L)
    return (A * B).sum((-2, -1)) / (A.square().sum((-2, -1)) * B.square().sum((-2, -1))).sqrt()


def linear_cka(X: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    """Centered kernel alignment of the linear kernels of two feature sets (n, ...) and (n, ...), flattened per point.

    A number from 0 to 1, differentiable in both; unchanged by orthogonal maps, by scales and by shifts of either set.
    With few points and many features it is biased upwards: independent Gaussian features give about 1 / (1 + n / p).
    Raises ValueError where the numbers of points differ or are below two.
    Source: Kornblith et al. (2019), section 3.
    """
    if X.dim() < 2 or Y.dim() < 2 or len(X) != len(Y) or len(X) < 2:
        raise ValueError(f"X and Y have shapes {tuple(X.shape)} and {tuple(Y.shape)}: expected (n, ...) for the same n >= 2")
    X, Y = X.flatten(1), Y.flatten(1)
    return gram_cka(X @ X.mT, Y @ Y.mT)
