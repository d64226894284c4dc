"""Kernel ridge regression: fitted at once, its leave-one-out residuals, row by row, and on a grid."""

import math
from collections.abc import Callable

import torch

Gram = Callable[..., torch.Tensor]


class KernelRidge:
    """Kernel ridge regression f(z) = k(z, X) (K + ridge I)^-1 Y, the mean of the Gaussian process with noise variance `ridge`.

    kernel: (X, Z=None) -> Gram matrix (n, m), as in `similarity.gram` once its parameters are bound.  ridge: from 0 upwards.
    What it computes can be differentiated in X, Y, Z and in the parameters of the kernel.
    Raises ValueError for a ridge below 0; what `fit` and `predict` raise is said there.
    Source: Rasmussen and Williams (2006), equations 2.25 and 2.26.
    """

    def __init__(self, kernel: Gram, ridge: float):
        self.kernel, self.ridge = kernel, _ridge(ridge)

    def fit(self, X: torch.Tensor, Y: torch.Tensor) -> "KernelRidge":
        """Solve for the coefficients.  X: (n, d), Y: (n,) or (n, outputs), of X's dtype.  Returns itself.

        Raises ValueError where Y does not fit X, or where K + ridge I is not positive definite in X's dtype.
        """
        self.X, self.factor = X, _cholesky(self.kernel(X), self.ridge)
        self.coefficients = _solve(self.factor, _targets(Y, self.factor))
        return self

    def predict(self, Z: torch.Tensor) -> torch.Tensor:
        """Values at Z: (m, d) -> (m,) or (m, outputs), as Y was.  Raises RuntimeError before `fit`."""
        return self._between(Z) @ self.coefficients

    def variance(self, Z: torch.Tensor) -> torch.Tensor:
        """The process's variance at Z, without noise: k(z, z) - k(z, X) (K + ridge I)^-1 k(X, z).  (m, d) -> (m,).

        Raises RuntimeError before `fit`.
        """
        between = self._between(Z)
        half = torch.linalg.solve_triangular(self.factor, between.mT, upper=False)
        prior = torch.cat([self.kernel(z[None]).reshape(1) for z in Z]) if len(Z) else Z.new_zeros(0)
        return (prior - half.square().sum(0)).clamp_min(0)

    def _between(self, Z: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "factor"):
            raise RuntimeError("KernelRidge has no data yet: call fit(X, Y) first")
        return self.kernel(Z, self.X)


def leave_one_out(K: torch.Tensor, Y: torch.Tensor, ridge: float) -> torch.Tensor:
    """Residuals y_i - f_i(x_i) of kernel ridge regression, each from the fit without its own point: one solve for all n.

    K: Gram matrix (n, n); Y: (n,) or (n, outputs), of K's dtype.  Returns Y's shape: (y_i - f(x_i)) / (1 - H_ii),
    H = K (K + ridge I)^-1, computed as [(K + ridge I)^-1 Y]_i / [(K + ridge I)^-1]_ii, which does not cancel.
    Raises ValueError for a matrix that is not square, a ridge below 0, Y that does not fit, K + ridge I not positive definite.
    Source: Rasmussen and Williams (2006), equation 5.12.
    """
    factor = _cholesky(K, _ridge(ridge))
    diagonal = torch.cholesky_inverse(factor).diagonal()
    coefficients = _solve(factor, _targets(Y, factor))
    return coefficients / (diagonal if Y.dim() == 1 else diagonal[:, None])


class RecursiveRidge:
    """Ridge regression that meets its rows in batches and forgets them: after each, the weights of the fit to all so far.

    Keeps the inverse R = (A^T A + ridge I)^-1, (features, features), and `weights` (features, outputs), and no row.
    Outputs may be added at any time: a new one counts as 0 on the rows before it.
    Raises ValueError for no features, or a ridge that is not positive.
    Source: Woodbury's identity; g-acil, theorem 3.1, is this recursion for labels that come class by class.
    """

    def __init__(self, features: int, ridge: float, *, dtype: torch.dtype = torch.float64):
        if not isinstance(features, int) or features < 1:
            raise ValueError(f"features={features!r}: expected a whole number from 1 upwards")
        if not 0 < ridge < math.inf:
            raise ValueError(f"ridge={ridge!r}: expected a positive finite number, or the inverse does not exist at the start")
        self.inverse = torch.eye(features, dtype=dtype) / ridge
        self.weights = torch.zeros(features, 0, dtype=dtype)

    def update(self, A: torch.Tensor, Y: torch.Tensor) -> "RecursiveRidge":
        """Take in rows A (n, features) with targets Y (n, outputs); outputs may only grow.  Returns itself.

        Raises ValueError for another number of features, of rows, another dtype, or fewer outputs than before.
        """
        known = self.weights.shape[1]
        if A.dim() != 2 or A.shape[1] != len(self.inverse) or A.dtype != self.inverse.dtype:
            expected = f"(rows, {len(self.inverse)}) of {self.inverse.dtype}"
            raise ValueError(f"A is {A.dtype} of shape {tuple(A.shape)}: expected {expected}")
        if Y.dim() != 2 or len(Y) != len(A) or Y.shape[1] < known or Y.dtype != A.dtype:
            expected = f"({len(A)}, {known} or more) of {A.dtype}"
            raise ValueError(f"Y is {Y.dtype} of shape {tuple(Y.shape)}: expected {expected}")
        self.weights = torch.cat([self.weights, self.weights.new_zeros(len(self.weights), Y.shape[1] - known)], 1)
        spread = self.inverse @ A.mT
        middle = torch.linalg.cholesky(torch.eye(len(A), dtype=A.dtype) + A @ spread)
        half = torch.linalg.solve_triangular(middle, spread.mT, upper=False)
        self.inverse = self.inverse - half.mT @ half
        self.weights = self.weights + self.inverse @ (A.mT @ (Y - A @ self.weights))
        return self


def kronecker_solve(K1: torch.Tensor, K2: torch.Tensor, U: torch.Tensor) -> torch.Tensor:
    """(K1 x K2)^-1 vec(U) on an n1 x n2 grid, as the matrix K2^-1 U K1^-1: O(n1^3 + n2^3) instead of O((n1 n2)^3).

    K1: (n1, n1), K2: (n2, n2), both positive definite; U: (n2, n1), one column for each point of the first axis.  (n2, n1).
    Raises ValueError for matrices that are not square or not positive definite, and for another shape of U.
    Source: gp-hm-pde, its section on product kernels; vec stacks columns.
    """
    factors = [_cholesky(K, 0.0) for K in (K1, K2)]
    if U.shape != (len(K2), len(K1)):
        raise ValueError(f"U has shape {tuple(U.shape)}: expected {(len(K2), len(K1))}")
    return torch.cholesky_solve(torch.cholesky_solve(U, factors[1]).mT.contiguous(), factors[0]).mT


def _ridge(ridge: float) -> float:
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge={ridge!r}: expected a finite number from 0 upwards")
    return ridge


def _cholesky(K: torch.Tensor, ridge: float) -> torch.Tensor:
    if K.dim() != 2 or K.shape[0] != K.shape[1]:
        raise ValueError(f"K has shape {tuple(K.shape)}: expected a square matrix")
    factor, failed = torch.linalg.cholesky_ex(K + ridge * torch.eye(len(K), dtype=K.dtype, device=K.device))
    if failed:
        raise ValueError(
            f"ridge={ridge!r}: K + ridge I is not positive definite in {K.dtype} (leading minor {int(failed)}): "
            "take a larger ridge, or float64"
        )
    return factor


def _targets(Y: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    if Y.dim() not in (1, 2) or len(Y) != len(factor) or Y.dtype != factor.dtype:
        n = len(factor)
        raise ValueError(f"Y is {Y.dtype} of shape {tuple(Y.shape)}: expected ({n},) or ({n}, outputs) of {factor.dtype}")
    return Y


def _solve(factor: torch.Tensor, Y: torch.Tensor) -> torch.Tensor:
    return torch.cholesky_solve(Y if Y.dim() == 2 else Y[:, None], factor).reshape(Y.shape)
