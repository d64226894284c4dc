import numpy as np
import pytest
from kernelbook.pages.figures import figure, palette, picture


def luminance(color):
    from matplotlib.colors import to_rgb

    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_the_three_hues_stay_apart_in_grey():
    greys = sorted(luminance(c) ** (1 / 2.2) for c in (palette.compare, palette.slide, palette.compute))
    assert min(np.diff(greys)) > 0.08


@pytest.mark.parametrize(
    "matrix", [[[0.625, 0.375, 0], [0.7, 0.3, 0], [0, 0.3, 0.7]], [[0.567, 0.433, 0], [0.558, 0.442, 0], [0, 0.242, 0.758]]]
)
def test_the_three_hues_stay_apart_for_the_color_blind(matrix):
    from matplotlib.colors import to_rgb

    seen = [np.array(matrix) @ to_rgb(c) for c in (palette.compare, palette.slide, palette.compute)]
    assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 0.2


@pytest.mark.parametrize("meaning", ["compare", "slide", "compute"])
def test_hues_can_be_read_on_white(meaning):
    contrast = 1.05 / (luminance(palette.by_meaning(meaning)) + 0.05)
    assert contrast > 2.5  # lines and large marks; text uses ink


def test_unknown_meanings_are_named():
    with pytest.raises(ValueError, match="meaning='slides'"):
        palette.by_meaning("slides")


def test_shades_run_from_pale_to_the_hue():
    shades = palette.shades(palette.compare, 4)
    assert len(shades) == 4 and np.all(np.diff([luminance(s) for s in shades]) < 0)
    with pytest.raises(ValueError, match="n=0"):
        palette.shades(palette.compare, 0)


def test_figures_have_one_size_and_no_upper_frame():
    fig, axes = figure(1, 3, height=2)
    assert tuple(fig.get_size_inches()) == (6.4, 2) and len(axes) == 3
    assert not axes[0].spines["top"].get_visible()
    picture(axes[0], np.eye(3))
    assert len(axes[0].get_xticks()) == 0
    with pytest.raises(ValueError, match="rows=0"):
        figure(0)
