"""One look for every figure: three hues for the three meanings of kernel, greys for baselines, dashed ink for theory."""

from __future__ import annotations

import sys
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN = 6.4, 3.6


class Palette:
    """The book's colors: distinct in grey and to the color-blind."""

    compare = "#1f5fa8"
    slide = "#d98a00"
    compute = "#2a8f5b"
    ink = "#1e2227"
    theory = "#1e2227"
    baseline = "#7b818a"
    light = "#c4c9cf"
    grid = "#e6e8eb"

    @property
    def sequential(self) -> Colormap:
        """From paper to deep blue: for quantities that start at zero."""
        return LinearSegmentedColormap.from_list("kernelbook-sequential", ["#ffffff", "#a9c6e8", "#1f5fa8", "#0b2545"])

    @property
    def diverging(self) -> Colormap:
        """Blue through paper to amber: for quantities with a sign."""
        return LinearSegmentedColormap.from_list("kernelbook-diverging", ["#123f75", "#5b8fcb", "#fbfbfa", "#e3a53c", "#8a5200"])

    def by_meaning(self, meaning: str) -> str:
        """The hue of `compare`, `slide` or `compute`.  Raises ValueError for anything else."""
        if meaning not in ("compare", "slide", "compute"):
            raise ValueError(f"meaning={meaning!r}: expected compare, slide or compute")
        return str(getattr(self, meaning))

    def shades(self, color: str, n: int) -> list[Any]:
        """n shades of a color from pale to full: for one method at n sizes.  Raises ValueError if n < 1."""
        if n < 1:
            raise ValueError(f"n={n!r}: expected at least one shade")
        ramp = LinearSegmentedColormap.from_list("kernelbook-shades", ["#ffffff", color])
        return [ramp(0.35 + 0.65 * i / max(n - 1, 1)) for i in range(n)] if n > 1 else [ramp(1.0)]


palette = Palette()

STYLE: dict[str, Any] = {
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.titleweight": "normal",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.5,
    "axes.labelcolor": palette.ink,
    "axes.edgecolor": palette.baseline,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=[palette.compare, palette.slide, palette.compute, palette.baseline, palette.light]),
    "xtick.color": palette.ink,
    "ytick.color": palette.ink,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": palette.grid,
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "image.cmap": "gray",
    "image.interpolation": "nearest",
    "svg.hashsalt": "kernelbook",
    "svg.fonttype": "path",
    "mathtext.fontset": "dejavusans",
}


def _use_house_style() -> None:
    plt.rcParams.update(STYLE)  # type: ignore[arg-type]
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        if get_ipython() is not None:
            # no date: the same figure gives the same bytes
            set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})


def figure(
    rows: int = 1, columns: int = 1, *, width: float = WIDTH_IN, height: float = HEIGHT_IN, **options: Any
) -> tuple[Figure, Any]:
    """A figure in the house style, and its axes as `plt.subplots` gives them.

    width, height: inches of the whole figure; 6.4 fills the page's text column.  options: passed to `plt.subplots`.
    """
    _use_house_style()
    if rows < 1 or columns < 1:
        raise ValueError(f"rows={rows!r}, columns={columns!r}: expected at least one of each")
    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **options)


def picture(ax: Any, image: Any, **options: Any) -> Any:
    """Show a 2-D array or tensor (h, w) on ax without ticks or frame; options as for `imshow`."""
    drawn = ax.imshow(np.asarray(image), **options)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    return drawn
