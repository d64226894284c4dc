"""Graphs against SciPy, scikit-learn and closed forms; k-means against the feature space that it never sees."""

import math

import numpy as np
import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.graphs import chebyshev_expm, heat_kernel, kernel_kmeans, knn_graph, laplacian
from scipy import sparse


def draw(name, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=run.generator(name), dtype=dtype)


def weights(name="weights", n=12):
    A = torch.rand(n, n, generator=run.generator(name), dtype=torch.float64)
    A = torch.where(A < 0.5, 0.0, A)
    return torch.triu(A, 1) + torch.triu(A, 1).T


def ring(n):
    return torch.roll(torch.eye(n, dtype=torch.float64), 1, 0) + torch.roll(torch.eye(n, dtype=torch.float64), -1, 0)


# ---------------------------------------------------------------- neighbors


@pytest.mark.parametrize(("weight", "mode"), [("one", "connectivity"), ("length", "distance")])
def test_knn_graph_is_scikit_learns_made_symmetric(weight, mode):
    from sklearn.neighbors import kneighbors_graph

    X = draw("X", 40, 3)
    directed = kneighbors_graph(X.numpy(), 5, mode=mode)
    found = knn_graph(X, 5, weights=weight)
    assert abs(found - directed.maximum(directed.T)).max() < 1e-12
    assert found.format == "csr" and found.dtype == np.float64 and not found.diagonal().any()


def test_gaussian_weights_are_those_of_the_lengths():
    X = draw("X", 30, 2)
    length, gaussian = knn_graph(X, 4, weights="length"), knn_graph(X, 4, weights="gaussian", bandwidth=0.7)
    i, j = length.nonzero()
    assert np.allclose(gaussian[i, j], np.exp(-0.5 * (length[i, j] / 0.7) ** 2), atol=1e-15) and gaussian.nnz == length.nnz


def test_points_on_a_line_have_their_neighbors():
    X = torch.arange(6.0)[:, None]
    assert (knn_graph(X, 1, weights="length").toarray() <= 1).all()
    assert knn_graph(X, 5).toarray().sum() == 30


def test_copies_of_a_point_are_its_neighbors_and_never_it_itself():
    X = torch.cat([torch.zeros(5, 2), torch.ones(3, 2)])
    found = knn_graph(X, 2, weights="length")
    assert not found.diagonal().any() and (np.diff(found.indptr) >= 2).all()
    assert found[:5, :5].nnz >= 10 and 0 < found.max() < 1e-300


# ---------------------------------------------------------------- Laplacians


@pytest.mark.parametrize("normalized", [False, True])
def test_laplacian_is_scipys_dense_and_sparse(normalized):
    A = weights()
    A[3] = A[:, 3] = 0  # a node without edges
    A = A + torch.diag(torch.arange(12.0))  # self-loops do not count
    theirs = sparse.csgraph.laplacian(A.numpy(), normed=normalized)
    dense, thin = laplacian(A, normalized=normalized), laplacian(sparse.coo_array(A.numpy()), normalized=normalized)
    assert np.allclose(dense, theirs, atol=1e-14) and np.allclose(thin.toarray(), theirs, atol=1e-14)
    assert thin.format == "csr" and float(dense[3].abs().sum()) == 0
    assert laplacian(A.float(), normalized=normalized).dtype == torch.float32


def test_laplacian_is_differentiable_and_blind_to_constants():
    A = weights().requires_grad_()
    x = draw("x", 12)
    energy = x @ laplacian(A) @ x
    assert torch.allclose(energy, 0.5 * (A * (x[:, None] - x) ** 2).sum())
    energy.backward()
    assert A.grad.abs().max() > 0
    assert (laplacian(A) @ torch.ones(12, dtype=torch.float64)).abs().max() < 1e-13


# ---------------------------------------------------------------- heat


def test_heat_kernel_is_the_matrix_exponential_at_every_time():
    L = laplacian(weights())
    times = torch.tensor([0.0, 0.3, 5.0], dtype=torch.float64)
    expected = torch.stack([torch.matrix_exp(-t * L) for t in times])
    assert torch.allclose(heat_kernel(L, times), expected, atol=1e-13)
    assert torch.allclose(heat_kernel(sparse.csr_array(L.numpy()), 0.3), expected[1], atol=1e-13)
    assert torch.allclose(heat_kernel(L, times).sum(-1), torch.ones(3, 12, dtype=torch.float64))
    assert heat_kernel(L.float(), 1.0).dtype == torch.float32


def test_heat_on_a_ring_is_the_bessel_function_of_its_distance():
    from scipy.special import ive

    H = heat_kernel(laplacian(ring(60)), 1.5)
    # exp(-2 t) I_k(2 t), summed over the ways around
    expected = [sum(ive(abs(k + 60 * m), 3.0) for m in (-1, 0, 1)) for k in range(60)]
    assert np.allclose(H[0], expected, atol=1e-15)


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("t", [0.0, 0.5, 10.0])
def test_chebyshev_is_scipys_expm_multiply(normalized, t):
    from scipy.sparse.linalg import expm_multiply

    L, B = laplacian(weights(), normalized=normalized), draw("B", 12, 3)
    bound = float(L.abs().sum(1).max())
    order = math.ceil(6 * math.sqrt(t * bound)) + 8
    theirs = expm_multiply(-t * L.numpy(), B.numpy()) if t else B.numpy()
    thin = sparse.csr_array(L.numpy())
    for form in (L, L.to_sparse(), thin):
        assert np.allclose(chebyshev_expm(form, B, t, order), theirs, atol=3e-14 * float(B.norm()))
    assert np.allclose(chebyshev_expm(L, B[:, 0], t, order), theirs[:, 0], atol=3e-14 * float(B.norm()))
    if normalized:
        assert np.allclose(chebyshev_expm(thin, B, t, order, bound=2.0), theirs, atol=3e-14 * float(B.norm()))


@pytest.mark.parametrize("product", [1.0, 30.0, 1e3, 1e5])
def test_the_order_that_the_docstring_names_is_enough_and_half_of_it_is_not(product):
    lam = torch.linspace(0, 2, 300, dtype=torch.float64)
    order = math.ceil(6 * math.sqrt(product)) + 8
    off = [
        (
            chebyshev_expm(torch.diag(lam), torch.ones(300, dtype=torch.float64), product / 2, m, bound=2.0)
            - torch.exp(-product / 2 * lam)
        )
        .abs()
        .max()
        for m in (order, order // 2)
    ]
    assert off[0] < 1e-12 < 1e-10 < off[1]


def test_chebyshev_survives_times_at_which_its_bessel_functions_overflow():
    L = laplacian(ring(30))
    found = chebyshev_expm(L, torch.eye(30, dtype=torch.float64), 1e4, 1300)
    assert torch.allclose(found, torch.full((30, 30), 1 / 30, dtype=torch.float64), atol=1e-12)


def test_chebyshev_is_differentiable_in_dense_matrices_and_keeps_its_dtype():
    L = laplacian(weights(n=5)).requires_grad_()
    B = draw("B", 5, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda L, B: chebyshev_expm(L, B, 0.7, 25, bound=8.0), (L, B))
    assert chebyshev_expm(L.detach().float(), B.detach().float(), 1.0, 20).dtype == torch.float32
    thin = sparse.csr_array(L.detach().numpy())
    assert chebyshev_expm(thin, B.detach().float(), 1.0, 20).dtype == torch.float32


def test_a_graph_without_edges_keeps_its_heat():
    B = draw("B", 4, 2)
    zero = torch.zeros(4, 4, dtype=torch.float64)
    for form in (zero, zero.to_sparse(), sparse.csr_array((4, 4))):
        assert torch.allclose(chebyshev_expm(form, B, 3.0, 30), B, atol=1e-14)


# ---------------------------------------------------------------- k-means


def clusters(name="clusters"):
    centers = torch.tensor([[0.0, 0], [6, 0], [0, 6]], dtype=torch.float64)
    labels = torch.arange(3).repeat_interleave(20)
    return centers[labels] + draw(name, 60, 2), labels


def same_partition(a, b):
    return bool(((a[:, None] == a) == (b[:, None] == b)).all())


def test_kmeans_finds_clusters_and_scikit_learns_inertia():
    from sklearn.cluster import KMeans

    X, labels = clusters()
    found, inertia = kernel_kmeans(X @ X.T, 3, run.generator("starts"))
    theirs = KMeans(3, n_init=10, random_state=run.seeds(1)[0] % 2**32).fit(X.numpy())
    assert found.dtype == torch.int64 and same_partition(found, labels)
    assert abs(float(inertia) - theirs.inertia_) < 1e-9


def test_inertia_is_the_sum_of_squares_about_the_means():
    X = draw("X", 30, 4)
    labels, inertia = kernel_kmeans(X @ X.T, 4, run.generator("starts"), starts=2)
    expected = sum(float((X[labels == c] - X[labels == c].mean(0)).square().sum()) for c in labels.unique())
    assert abs(float(inertia) - expected) < 1e-10


def test_no_single_move_of_the_answer_to_the_nearest_mean_is_left():
    X = draw("X", 50, 3)
    labels, _ = kernel_kmeans(X @ X.T, 3, run.generator("starts"))
    means = torch.stack([X[labels == c].mean(0) for c in range(3)])
    assert torch.equal(torch.cdist(X, means).argmin(1), labels)


def test_a_batch_is_worked_on_as_one_after_another():
    X, labels = clusters()
    K = torch.stack([X @ X.T, torch.exp(-(torch.cdist(X, X) ** 2) / 8), (X @ X.T) ** 2])
    found, inertia = kernel_kmeans(K, 3, run.generator("starts"), starts=20)
    assert found.shape == (3, 60) and inertia.shape == (3,)
    assert same_partition(found[0], labels) and same_partition(found[1], labels)
    alone, least = kernel_kmeans(K[0], 3, run.generator("starts"), starts=20)
    assert torch.equal(alone, found[0]) and torch.isclose(least, inertia[0])


def test_more_starts_never_raise_the_inertia_by_much_and_mostly_lower_it():
    X = draw("X", 80, 2)
    least = [
        float(kernel_kmeans(X @ X.T, 8, run.generator("starts", seed=s), starts=n)[1]) for n in (1, 30) for s in run.seeds(8)
    ]
    assert sum(least[8:]) < sum(least[:8])


def test_indefinite_matrices_end_and_keep_the_best_partition():
    K = draw("K", 30, 30)
    K = K + K.T
    labels, inertia = kernel_kmeans(K, 3, run.generator("starts"), rounds=200)
    Z = torch.nn.functional.one_hot(labels, 3).double()
    expected = K.trace() - (Z.T @ K @ Z).diagonal().div(Z.sum(0).clamp_min(1)).sum()
    assert torch.isclose(inertia, expected)
    first, once = kernel_kmeans(K, 3, run.generator("starts"), rounds=1)
    assert inertia <= once and first.shape == (30,)


def test_as_many_clusters_as_points_and_one():
    X = draw("X", 6, 2)
    labels, inertia = kernel_kmeans(X @ X.T, 6, run.generator("starts"))
    assert len(labels.unique()) == 6 and abs(float(inertia)) < 1e-12
    assert not kernel_kmeans(X @ X.T, 1, run.generator("starts"))[0].any()


def test_starts_come_from_the_generator_alone():
    K = draw("X", 40, 2) @ draw("X", 40, 2).T
    first, again, other = (kernel_kmeans(K, 6, run.generator("starts", seed=s), starts=1)[0] for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


X2, I3 = torch.zeros(3, 2), torch.eye(3)
G = run.generator("starts")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: knn_graph(X2, 3), "k=3: expected a whole number from 1 to 2"),
        (lambda: knn_graph(X2, 0), "k=0: expected"),
        (lambda: knn_graph([[0.0]], 1), "X is list: expected"),
        (lambda: knn_graph(X2, 1, weights="two"), "weights='two': expected one, length or gaussian"),
        (lambda: knn_graph(X2, 1, weights="gaussian"), "bandwidth=None: expected a positive"),
        (lambda: knn_graph(X2, 1, weights="gaussian", bandwidth=-1.0), "bandwidth=-1.0: expected"),
        (lambda: knn_graph(X2, 1, bandwidth=1.0), "bandwidth=1.0: expected"),
        (lambda: laplacian(X2), r"A has shape \(3, 2\): expected a square"),
        (lambda: laplacian(I3.long()), "A is torch.int64: expected a floating"),
        (lambda: laplacian(sparse.csr_array((2, 3))), r"A has shape \(2, 3\): expected a square"),
        (lambda: laplacian(torch.triu(torch.ones(3, 3))), "A differs from its transpose by 1: expected symmetric"),
        (lambda: laplacian(sparse.csr_array(np.triu(np.ones((3, 3))))), "A differs from its transpose by 1: expected"),
        (lambda: laplacian(torch.full((3, 3), math.nan)), "A differs from its transpose by nan: expected"),
        (lambda: laplacian(-torch.ones(3, 3)), "A has the entry -1: expected weights from 0"),
        (lambda: laplacian(sparse.csr_array(-np.ones((3, 3)))), "A has the entry -1: expected weights from 0"),
        (lambda: heat_kernel(X2, 1.0), r"L has shape \(3, 2\): expected a square"),
        (lambda: heat_kernel(I3, -1.0), "t=-1.0: expected a finite number from 0"),
        (lambda: heat_kernel(I3, torch.ones(2, 2)), "t=tensor"),
        (lambda: chebyshev_expm(X2, X2, 1.0, 3), r"L has shape \(3, 2\): expected a square"),
        (lambda: chebyshev_expm(I3, torch.ones(2), 1.0, 3), r"B is torch.float32 of shape \(2,\): expected"),
        (lambda: chebyshev_expm(I3, I3.long(), 1.0, 3), "B is torch.int64"),
        (lambda: chebyshev_expm(I3, X2, -1.0, 3), "t=-1.0: expected"),
        (lambda: chebyshev_expm(I3, X2, 1.0, -1), "order=-1: expected"),
        (lambda: chebyshev_expm(I3, X2, 1.0, 3, bound=0.0), None),
        (lambda: chebyshev_expm(I3, X2, 1.0, 3, bound=-2.0), "bound=-2.0: expected a positive"),
        (lambda: kernel_kmeans(X2, 2, G), r"K has shape \(3, 2\): expected a square"),
        (lambda: kernel_kmeans(I3.long(), 2, G), "K is torch.int64: expected"),
        (lambda: kernel_kmeans(math.inf * torch.ones(2, 2), 2, G), "K has entries that are not finite: expected"),
        (lambda: kernel_kmeans(I3, 4, G), "clusters=4: expected a whole number from 1 to 3"),
        (lambda: kernel_kmeans(I3, 2, G, starts=0), "starts=0: expected"),
        (lambda: kernel_kmeans(I3, 2, G, rounds=0), "rounds=0: expected"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words or "bound=0.0: expected a positive"):
        call()
