"""Centered kernel alignment: against the definition, its invariances, its gradient and its bias."""

import pytest
import torch
from kernelbook.similarity.alignment import center, gram_cka, linear_cka


def draw(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, Y = draw(20, 5), draw(20, 9, seed=2)


def test_center_is_the_projection():
    H = torch.eye(20, dtype=torch.float64) - 1 / 20
    K = X @ X.T
    assert torch.allclose(center(K), H @ K @ H)
    assert torch.allclose(center(torch.stack([K, 2 * K]))[1], 2 * H @ K @ H)


def test_against_hsic_by_brute_force():
    n = len(X)
    H = torch.eye(n, dtype=torch.float64) - 1 / n

    def hsic(K, L):
        return torch.trace(K @ H @ L @ H) / (n - 1) ** 2

    K, L = X @ X.T, Y @ Y.T
    assert linear_cka(X, Y).item() == pytest.approx((hsic(K, L) / (hsic(K, K) * hsic(L, L)).sqrt()).item())


def test_feature_form_agrees():
    A, B = X - X.mean(0), Y - Y.mean(0)
    by_features = (B.T @ A).norm() ** 2 / ((A.T @ A).norm() * (B.T @ B).norm())
    assert linear_cka(X, Y).item() == pytest.approx(by_features.item())


def test_invariances_and_range():
    turn = torch.linalg.qr(draw(5, 5, seed=3)).Q
    assert linear_cka(3 * X @ turn + 7, Y).item() == pytest.approx(linear_cka(X, Y).item())
    assert linear_cka(X, X).item() == pytest.approx(1) and 0 < linear_cka(X, Y) < 1
    assert linear_cka(X, Y).item() == pytest.approx(linear_cka(Y, X).item())
    # a general linear map is no symmetry of it
    assert abs(linear_cka(X * torch.arange(1, 6), Y) - linear_cka(X, Y)) > 1e-3


def test_feature_maps_are_flattened_and_batches_of_grams_taken():
    assert linear_cka(X, Y.view(20, 3, 3)).item() == pytest.approx(linear_cka(X, Y).item())
    both = gram_cka(torch.stack([X @ X.T, Y @ Y.T]), Y @ Y.T)
    assert both[0].item() == pytest.approx(linear_cka(X, Y).item()) and both[1].item() == pytest.approx(1)


def test_gradients():
    assert torch.autograd.gradcheck(linear_cka, (X[:6].clone().requires_grad_(), Y[:6].clone().requires_grad_()))


def test_the_bias_of_small_batches():
    for n, p in ((50, 1000), (100, 100)):
        found = linear_cka(draw(n, p, seed=4), draw(n, p, seed=5)).item()
        assert found == pytest.approx(1 / (1 + n / p), abs=0.03)
    assert linear_cka(draw(2000, 5, seed=4), draw(2000, 5, seed=5)) < 0.01


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: linear_cka(X, Y[:5]), "X and Y"),
        (lambda: linear_cka(X[:1], Y[:1]), "X and Y"),
        (lambda: linear_cka(X[:, 0], Y[:, 0]), "X and Y"),
        (lambda: gram_cka(X, Y), "K has shape (20, 5)"),
        (lambda: gram_cka(X @ X.T, Y[:3] @ Y[:3].T), "L is on 3 points"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match="expected") as error:
        call()
    assert words in str(error.value)
