"""Laplacians of surfaces: flat ones, spheres, and the constants that they must leave alone."""

import math

import pytest
import torch
from kernelbook.evidence import run
from kernelbook.similarity.surfaces import connection_laplacian, cotangent_laplacian, furthest_points, tangent_frames
from scipy import sparse
from scipy.sparse.linalg import eigsh
from scipy.spatial import ConvexHull


def draw(name, *shape):
    return torch.randn(*shape, generator=run.generator(name), dtype=torch.float64)


def sphere(n):
    i = torch.arange(n, dtype=torch.float64) + 0.5
    z, angle = 1 - 2 * i / n, math.pi * (1 + 5**0.5) * i
    r = (1 - z * z).sqrt()
    return torch.stack([r * angle.cos(), r * angle.sin(), z], 1)


def graph(X, k):
    near = torch.cdist(X, X).fill_diagonal_(torch.inf).topk(k, largest=False).indices
    A = torch.zeros(len(X), len(X), dtype=torch.float64).scatter_(1, near, 1.0)
    return sparse.csr_array(torch.maximum(A, A.T).numpy())


def test_furthest_points_spread():
    X = draw("X", 200, 2)
    chosen = furthest_points(X, 20, start=3)
    assert chosen[0] == 3 and len(chosen.unique()) == 20
    assert furthest_points(torch.tensor([[0.0], [1.0], [10.0], [4.0]]), 3).tolist() == [0, 2, 3]

    def closest(Y):
        return torch.cdist(Y, Y).fill_diagonal_(torch.inf).min()

    assert closest(X[chosen]) > 3 * closest(X[:20])


def test_frames_of_a_sphere_are_orthonormal_and_tangent():
    X = sphere(600)
    frames, shares = tangent_frames(X, 12, 2)
    assert torch.allclose(frames.mT @ frames, torch.eye(2, dtype=torch.float64).expand(600, 2, 2), atol=1e-12)
    assert (frames.mT @ X[:, :, None]).abs().max() < 0.15  # neighbors lie within 0.3
    assert (shares[:, :2].sum(1) > 0.97).all() and torch.allclose(shares.sum(1), torch.ones(600, dtype=torch.float64))


def test_in_the_plane_it_is_the_scalar_laplacian_twice():
    X = torch.cat([torch.rand(80, 2, generator=run.generator("X"), dtype=torch.float64), torch.zeros(80, 1)], 1)
    A = graph(X, 6)
    frames, _ = tangent_frames(X, 6, 2)
    L = connection_laplacian(frames, A).toarray()
    plain = torch.from_numpy(sparse.csgraph.laplacian(A).toarray())
    # one frame for all, by turning each into the axes of the plane
    turn = torch.block_diag(*frames[:, :2])
    assert torch.allclose(turn @ torch.from_numpy(L) @ turn.T, torch.kron(plain, torch.eye(2).double()), atol=1e-10)


def test_no_vector_field_on_a_sphere_is_parallel_but_on_a_cylinder_one_is():
    X = sphere(500)
    low = eigsh(connection_laplacian(tangent_frames(X, 12, 2)[0], graph(X, 8)), 1, sigma=-1e-3)[0][0]
    angle, height = torch.meshgrid(torch.arange(24) * math.tau / 24, torch.arange(20) / 4.0, indexing="ij")
    cylinder = torch.stack([angle.cos(), angle.sin(), height.double()], -1).reshape(-1, 3).double()
    flat = eigsh(connection_laplacian(tangent_frames(cylinder, 8, 2)[0], graph(cylinder, 8)), 1, sigma=-1e-3)[0][0]
    assert abs(flat) < 1e-3 * low and low > 0.01


def test_cotangent_laplacian_of_a_sphere_has_its_eigenvalues():
    X = sphere(2000)
    faces = torch.from_numpy(ConvexHull(X.numpy()).simplices).long()
    W, mass = cotangent_laplacian(X, faces)
    assert abs(W - W.T).max() < 1e-12 and abs(W.sum(1)).max() < 1e-10
    assert abs(float(mass.sum()) / (4 * math.pi) - 1) < 0.01
    values = eigsh(W, 9, sparse.diags_array(mass.numpy()).tocsc(), sigma=-0.01)[0]
    # l (l + 1), each 2 l + 1 times
    assert torch.allclose(torch.from_numpy(values), torch.tensor([0, 2, 2, 2, 6, 6, 6, 6, 6.0]).double(), rtol=0.01, atol=1e-8)


X3 = torch.eye(3, dtype=torch.float64)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: furthest_points(X3, 4), "count=4, start=0: expected"),
        (lambda: furthest_points(X3, 1, start=3), "start=3: expected"),
        (lambda: tangent_frames(X3, 3, 2), "neighbors=3, dimension=2: expected"),
        (lambda: tangent_frames(X3, 2, 3), "dimension=3: expected"),
        (lambda: connection_laplacian(X3[:, :, None], sparse.csr_array([[0.0, 1.0], [1.0, 0.0]])), r"A has shape \(2, 2\)"),
        (lambda: connection_laplacian(X3[:, :, None], sparse.csr_array(X3.numpy())), "nothing on the diagonal"),
        (lambda: cotangent_laplacian(X3, torch.tensor([[0, 1, 3]])), "faces name other vertices than 0 to 2"),
        (lambda: cotangent_laplacian(X3, torch.tensor([[0, 1, 1]])), r"faces\[0\] has no area"),
        (lambda: cotangent_laplacian(X3[:, :2], torch.tensor([[0, 1, 2]])), r"vertices have shape \(3, 2\)"),
    ],
)
def test_bad_arguments_are_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()
