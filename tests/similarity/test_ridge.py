"""Kernel ridge regression against scikit-learn, brute force and dense solves."""

import math
from functools import partial

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.gram import gaussian, polynomial
from kernelbook.similarity.ridge import KernelRidge, RecursiveRidge, kronecker_solve, leave_one_out

kernel = partial(gaussian, bandwidth=1.2)


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=run.generator(name), dtype=dtype)


@pytest.mark.parametrize("columns", [(), (3,)])
def test_it_is_scikit_learns(columns):
    from sklearn import kernel_ridge

    X, Y, Z = draw("X", 30, 2), draw("Y", 30, *columns), draw("Z", 7, 2)
    theirs = kernel_ridge.KernelRidge(alpha=0.3, kernel="rbf", gamma=0.5 / 1.2**2).fit(X, Y).predict(Z)
    ours = KernelRidge(kernel, 0.3).fit(X, Y).predict(Z)
    assert ours.shape == (7, *columns)
    assert torch.allclose(ours, torch.from_numpy(theirs), atol=1e-12)


@pytest.mark.parametrize("k", [kernel, partial(polynomial, degree=2)])
def test_it_is_the_mean_and_variance_of_a_gaussian_process(k):
    X, Y, Z = draw("X", 30, 2), draw("Y", 30), draw("Z", 7, 2)
    K, between = k(X) + 0.3 * torch.eye(30), k(Z, X)
    fit = KernelRidge(k, 0.3).fit(X, Y)
    assert torch.allclose(fit.variance(Z), k(Z).diagonal() - (between @ K.inverse() * between).sum(1), atol=1e-10)
    assert fit.variance(Z[:0]).shape == (0,)


def test_variance_is_scikit_learns():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF

    X, Y, Z = draw("X", 30, 2), draw("Y", 30), draw("Z", 7, 2)
    process = GaussianProcessRegressor(RBF(1.2, "fixed"), alpha=0.3, optimizer=None).fit(X, Y)
    mean, deviation = process.predict(Z, return_std=True)
    fit = KernelRidge(kernel, 0.3).fit(X, Y)
    assert torch.allclose(fit.predict(Z), torch.from_numpy(mean), atol=1e-10)
    assert torch.allclose(fit.variance(Z), torch.from_numpy(deviation) ** 2, atol=1e-10)


@pytest.mark.parametrize("columns", [(), (2,)])
def test_leave_one_out_is_leaving_each_out(columns):
    X, Y = draw("X", 12, 2), draw("Y", 12, *columns)
    found = leave_one_out(kernel(X), Y, 0.2)
    for i in range(12):
        rest = torch.arange(12) != i
        expected = Y[i] - KernelRidge(kernel, 0.2).fit(X[rest], Y[rest]).predict(X[i : i + 1])[0]
        assert torch.allclose(found[i], expected, atol=1e-12)


def test_it_can_be_differentiated_in_support_and_targets():
    X, Y, Z = draw("X", 6, 2).requires_grad_(), draw("Y", 6).requires_grad_(), draw("Z", 3, 2)
    assert torch.autograd.gradcheck(lambda X, Y: KernelRidge(kernel, 0.5).fit(X, Y).predict(Z), (X, Y))


def test_rows_met_in_batches_give_the_joint_fit():
    A, Y = draw("A", 50, 8), draw("Y", 50, 4)
    Y[:20, 2:] = 0  # the last two outputs appear with row 20
    stream = RecursiveRidge(8, 0.1)
    for rows, outputs in ((slice(0, 1), 2), (slice(1, 20), 2), (slice(20, 50), 4)):
        stream.update(A[rows], Y[rows, :outputs])
    joint = torch.linalg.solve(A.T @ A + 0.1 * torch.eye(8), A.T @ Y)
    assert torch.allclose(stream.weights, joint, atol=1e-12)
    assert torch.allclose(stream.inverse, torch.linalg.inv(A.T @ A + 0.1 * torch.eye(8)), atol=1e-12)


def test_kronecker_solve_is_the_dense_one():
    K1, K2 = (kernel(draw(n, m, 2)) + 0.1 * torch.eye(m) for n, m in (("a", 4), ("b", 5)))
    U = draw("U", 5, 4)
    dense = torch.linalg.solve(torch.kron(K1.contiguous(), K2.contiguous()), U.T.reshape(-1))
    assert torch.allclose(kronecker_solve(K1, K2, U).T.reshape(-1), dense, atol=1e-10)


X5 = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: KernelRidge(kernel, -1), "ridge=-1: expected a finite number"),
        (lambda: KernelRidge(kernel, math.nan), "ridge=nan: expected"),
        (lambda: KernelRidge(kernel, 1).fit(X5, X5[:4, 0]), r"Y is torch.float64 of shape \(4,\): expected \(5,\)"),
        (lambda: KernelRidge(kernel, 1).fit(X5, X5[:, 0].float()), r"Y is torch.float32 .* expected"),
        (lambda: KernelRidge(kernel, 0.0).fit(X5[[0, 0]], X5[:2, 0]), "ridge=0.0: K .* not positive definite in torch.float64"),
        (lambda: leave_one_out(X5, X5[:, 0], 1.0), r"K has shape \(5, 1\): expected a square"),
        (lambda: RecursiveRidge(0, 1.0), "features=0: expected"),
        (lambda: RecursiveRidge(2, 0.0), "ridge=0.0: expected a positive"),
        (lambda: RecursiveRidge(2, 1.0).update(X5, X5), r"A is .* \(5, 1\): expected \(rows, 2\)"),
        (lambda: RecursiveRidge(1, 1.0).update(X5, X5[:3]), r"Y is .* \(3, 1\): expected \(5, 0 or more\)"),
        (lambda: RecursiveRidge(1, 1.0).update(X5, X5).update(X5, X5[:, :0]), r"Y is .* expected \(5, 1 or more\)"),
        (
            lambda: kronecker_solve(kernel(X5) + torch.eye(5), torch.eye(2).double(), X5),
            r"U has shape \(5, 1\): expected \(2, 5\)",
        ),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_predicting_before_fitting_is_an_error():
    for ask in (KernelRidge(kernel, 1.0).predict, KernelRidge(kernel, 1.0).variance):
        with pytest.raises(RuntimeError, match="call fit"):
            ask(X5)
