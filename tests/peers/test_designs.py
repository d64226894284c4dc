"""Lattices, nets and their Gram matrices against qmcpy."""

import numpy as np
import pytest
import torch
from kernelbook.evidence import run
from kernelbook.gpu.walsh_hadamard import fwht
from kernelbook.similarity.designs import LATTICE_VECTOR, digital_net, lattice

qmcpy = pytest.importorskip("qmcpy", reason="qmcpy is not installed")


def test_lattice():
    theirs = qmcpy.Lattice(dimension=5, randomize="FALSE", generating_vector=np.array(LATTICE_VECTOR, dtype=np.uint64), m_max=20)
    assert np.allclose(lattice(256, 5).numpy(), theirs.gen_samples(256, warn=False), atol=1e-12)


def test_plain_net():
    theirs = qmcpy.DigitalNetB2(dimension=20, randomize="FALSE").gen_samples(1024, warn=False)
    assert np.array_equal(digital_net(1024, 20).numpy(), theirs)


@pytest.mark.parametrize("alpha", [2, 3])
def test_interlaced_net(alpha):
    theirs = qmcpy.DigitalNetB2(dimension=3, randomize="FALSE", alpha=alpha).gen_samples(256, warn=False)
    assert np.abs(digital_net(256, 3, interlace=alpha).numpy() - theirs).max() < 2**-51


@pytest.mark.parametrize("name, randomize", [("matrix", "LMS DS"), ("nested", "NUS")])
@pytest.mark.parametrize("interlace", [1, 2])
def test_scramblings_integrate_equally_well(name, randomize, interlace):
    def error(points):
        return float(np.mean([((np.exp(x) - np.e + 2).prod(1).mean() - 1) ** 2 for x in points]) ** 0.5)

    g = run.generator("scramblings")
    seed = int(run.rng("qmcpy").integers(2**31))
    nets = qmcpy.DigitalNetB2(dimension=2, randomize=randomize, alpha=interlace, replications=60, seed=seed)
    ours = [digital_net(256, 2, g, scramble=name, interlace=interlace).numpy() for _ in range(60)]
    assert 0.5 < error(ours) / error(nets.gen_samples(256, warn=False)) < 2


@pytest.mark.parametrize("alpha", [1, 2, 3])
def test_gram_of_a_net_is_solved_by_two_walsh_transforms(alpha):
    x = digital_net(256, 3, run.generator("net"))
    K = qmcpy.KernelDigShiftInvar(3, t=52, alpha=alpha)(x.numpy()[:, None], x.numpy()[None])
    y = torch.randn(256, generator=run.generator("y"), dtype=torch.float64)
    eigenvalues = fwht(torch.from_numpy(K[:, 0]).contiguous())
    assert torch.allclose(fwht(fwht(y) / eigenvalues) / 256, torch.linalg.solve(torch.from_numpy(K), y), rtol=1e-8, atol=1e-10)
    assert np.allclose(fwht(y).numpy() / 16, qmcpy.fwht(y.numpy()), atol=1e-12)


def test_gram_of_a_lattice_is_solved_by_their_mirrored_fft():
    x = lattice(256, 3, run.generator("lattice")).numpy()
    K = qmcpy.KernelShiftInvar(3, alpha=1)(x[:, None], x[None])
    y = run.rng("y").normal(size=256)
    eigenvalues = 16 * qmcpy.fftbr(K[:, 0])
    assert np.allclose(qmcpy.ifftbr(qmcpy.fftbr(y) / eigenvalues).real, np.linalg.solve(K, y), rtol=1e-8, atol=1e-10)
