"""Draw assets/three-kernels.svg, the picture of the README and the landing page: one blur seen as three kernels.

    python tools/draw_picture.py

The numbers are the library's: a Gram matrix, the same kernel sliding, and the GPU program (in plain torch here).
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from kernelbook.convolution.toeplitz import toeplitz_matmul
from kernelbook.evidence import run
from kernelbook.gpu.blur import blur
from kernelbook.pages.figures import STYLE, palette
from kernelbook.similarity.gram import gaussian
from matplotlib.axes import Axes

TARGET = Path(__file__).resolve().parents[1] / "assets" / "three-kernels.svg"
N, BANDWIDTH, AT, BLOCK = 64, 3.2, 23, 16
# 17 points on a picture 7.2 inches wide are still 9 on a telephone
TEXT, FORMULA = 17, 15


def signal() -> torch.Tensor:
    """Two steps under noise, (64,); the seed is always the site's own."""
    position = torch.arange(float(N))
    clean = (position >= 16).float() - 0.65 * (position >= 44)
    return clean + 0.2 * torch.randn(N, generator=run.generator("the picture", seed=0))


def bare(ax: Axes, word: str, formula: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    hue = palette.by_meaning(word)
    ax.text(0.5, 1.18, word, transform=ax.transAxes, ha="center", color=hue, size=TEXT, weight="bold")
    ax.text(0.5, 1.045, formula, transform=ax.transAxes, ha="center", color=palette.ink, size=FORMULA)


def compare(ax: Axes, K: torch.Tensor) -> None:
    ax.imshow(K.numpy(), cmap=palette.sequential, vmin=-0.04)
    ax.add_patch(plt.Rectangle((-0.5, AT - 0.9), N, 1.8, fill=False, ec=palette.ink, lw=1.6))
    bare(ax, "compare", "$K_{ij}=k(i-j)$")


def slide(ax: Axes, x: torch.Tensor, y: torch.Tensor, k: torch.Tensor) -> None:
    position = torch.arange(N)
    ax.plot(position, x, "o", ms=3.2, color=palette.light)
    ax.plot(position[: AT + 1], y[: AT + 1], color=palette.slide, lw=3.2)
    ax.plot(position[AT:], y[AT:], color=palette.slide, lw=1.8, alpha=0.4)
    ax.fill_between(position, -0.75, -0.75 + 0.62 * k, color=palette.slide, alpha=0.55, lw=0)
    ax.annotate("", (AT + 17, -0.5), (AT + 9, -0.5), arrowprops=dict(arrowstyle="-|>", color=palette.slide, lw=2.4))
    ax.plot([AT, AT], [-0.1, y[AT]], color=palette.ink, lw=1.2)
    ax.plot(AT, y[AT], "o", ms=7, color=palette.slide, mec=palette.ink, mew=1.2)
    bare(ax, "slide", "$y=k*x$")


def compute(ax: Axes, y: torch.Tensor) -> None:
    position = torch.arange(N)
    for program in range(N // BLOCK):
        own = slice(program * BLOCK, (program + 1) * BLOCK)
        left, shade = program * BLOCK - 0.5, 0.1 + 0.14 * (program % 2)
        ax.axvspan(left, left + BLOCK, color=palette.compute, lw=0, alpha=shade)
        ax.vlines(position[own], -0.45, y[own], color=palette.compute, lw=1.1, alpha=0.55)
        number = dict(ha="center", va="center", color=palette.compute, size=TEXT, weight="bold")
        ax.text(left + BLOCK / 2, -0.69, str(program), **number)
    ax.plot(position, y, "o", ms=3, color=palette.compute)
    bare(ax, "compute", "block by block")


def limits(*axes: Any) -> None:
    for ax in axes:
        ax.set(xlim=(-0.5, N - 0.5), ylim=(-0.82, 1.5), box_aspect=1)


def draw(target: Path = TARGET) -> None:
    """Write the picture; the same library gives the same bytes."""
    plt.rcParams.update(STYLE)
    x = signal()
    K = gaussian(torch.arange(float(N))[:, None], bandwidth=BANDWIDTH)
    k = torch.cat([K[0].flip(0)[:-1], K[0]]) / K[N // 2].sum()
    slid, computed = toeplitz_matmul(k, x), blur(x, k, block=BLOCK)
    assert torch.allclose(K @ x / K[N // 2].sum(), slid, atol=1e-6) and torch.allclose(computed, slid, atol=1e-6)
    fig, axes = plt.subplots(1, 3, figsize=(7.2, 3.05))
    fig.subplots_adjust(left=0.01, right=0.99, bottom=0.015, top=0.775, wspace=0.09)
    compare(axes[0], K)
    slide(axes[1], x, slid, K[AT])
    compute(axes[2], computed)
    limits(*axes[1:])
    fig.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(fig)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
