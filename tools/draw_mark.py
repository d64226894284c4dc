"""Draw assets/favicon.svg, the mark of the book: one impulse, blurred by the book's own kernel at three bandwidths.

python tools/draw_mark.py
"""

import sys
from pathlib import Path

import torch
from kernelbook.convolution.blur import gaussian_kernel
from kernelbook.gpu.blur import blur
from kernelbook.pages.figures import palette

TARGET = Path(__file__).resolve().parents[1] / "assets" / "favicon.svg"
SIZE, BASE, TOP = 64, 58, 6
HUES = ((13.0, palette.compute), (8.0, palette.slide), (4.2, palette.compare))


def bell(bandwidth: float, height: float) -> str:
    """The blurred impulse as a closed path on a canvas of 64 units, `height` units high."""
    impulse = torch.zeros(SIZE + 1)
    impulse[SIZE // 2] = 1
    y = blur(impulse, gaussian_kernel(bandwidth, dtype=torch.float32), backend="reference")
    points = [f"{x},{BASE - height * v:.2f}" for x, v in enumerate((y / y.max()).tolist())]
    return f"M0,{BASE} L" + " L".join(points) + f" L{SIZE},{BASE} Z"


def draw(target: Path = TARGET) -> None:
    """Write the mark; wider bells stand behind and are lower."""
    heights = [(BASE - TOP) * share for share in (0.45, 0.7, 1.0)]
    paths = "".join(f'<path d="{bell(b, h)}" fill="{hue}"/>' for (b, hue), h in zip(HUES, heights, strict=True))
    target.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}">{paths}</svg>\n', "utf8")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET)
