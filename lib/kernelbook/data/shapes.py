"""Images made by rule: printed characters in many fonts, slightly turned, sheared and moved."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

# Text fonts that matplotlib ships: DejaVu, STIX and Computer Modern, all under free licences.
FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSerif"),
    *("DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
_MASTER = 48  # pixels of the font's height in the picture that is turned and scaled


def glyphs(
    characters: str | Iterable[str],
    n: int,
    size: int,
    rng: np.random.Generator,
    *,
    fonts: Iterable[str] = FONTS,
    rotation: float = 15.0,
    shear: float = 0.3,
    jitter: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """n printed images of each character: (characters x n, size, size), float32 from 0 (paper) to 1 (ink), and labels.

    Labels (characters x n,) are places in `characters`, in order.  Each image: a font out of `fonts`, turned by up to
    `rotation` degrees either way, sheared by up to `shear`, its ink scaled to fill the frame but for a margin of 0 to
    `jitter` pixels on each side, as the scanned digits do.
    Raises ValueError for no or longer characters, n or size below 1, a margin that leaves nothing, an unknown font.
    """
    wanted, names = list(characters), list(fonts)
    if not wanted or any(len(c) != 1 for c in wanted):
        raise ValueError(f"characters={characters!r}: expected one or more single characters")
    for name, value, least in (("n", n, 1), ("size", size, 1), ("jitter", jitter, 0)):
        if not isinstance(value, int) or value < least:
            raise ValueError(f"{name}={value!r}: expected a whole number from {least} upwards")
    if size <= 2 * jitter:
        raise ValueError(f"jitter={jitter!r}: expected less than half of size={size}")
    if not names or set(names) - set(FONTS):
        raise ValueError(f"fonts={names!r}: expected some of {', '.join(FONTS)}")
    masters: dict[tuple[str, str], Any] = {}
    images = np.empty((len(wanted) * n, size, size), dtype=np.float32)
    for i in range(len(images)):
        key = (names[rng.integers(len(names))], wanted[i // n])
        if key not in masters:
            masters[key] = _master(*key)
        angle = math.radians(rng.uniform(-rotation, rotation))
        turned = _turned(masters[key], angle, rng.uniform(-shear, shear))
        images[i] = _framed(turned, size, rng.integers(0, jitter + 1, size=4))
    return torch.from_numpy(images), torch.arange(len(wanted)).repeat_interleave(n)


def _master(font: str, character: str) -> Any:
    """The character in white on black, in the middle of a picture with room to turn it."""
    import matplotlib
    from PIL import Image, ImageDraw, ImageFont

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    picture = Image.new("L", (2 * _MASTER, 2 * _MASTER))
    letters = ImageFont.truetype(str(path), _MASTER)
    ImageDraw.Draw(picture).text((_MASTER, _MASTER), character, fill=255, font=letters, anchor="mm")
    return picture


def _turned(picture: Any, angle: float, shear: float) -> Any:
    """The picture turned and sheared about its middle, cut to its ink."""
    from PIL import Image

    c, s = math.cos(angle), math.sin(angle)
    # output pixel -> input pixel: rotation times a shear along x
    a, b, d, e = c, c * shear - s, s, s * shear + c
    moved = _MASTER - a * _MASTER - b * _MASTER, _MASTER - d * _MASTER - e * _MASTER
    turned = picture.transform(picture.size, Image.Transform.AFFINE, (a, b, moved[0], d, e, moved[1]), Image.Resampling.BILINEAR)
    return turned.crop(turned.getbbox())


def _framed(ink: Any, size: int, margins: np.ndarray) -> np.ndarray:
    """The ink scaled, in proportion, into the frame that the margins (left, top, right, bottom) leave, and in its middle."""
    from PIL import Image

    left, top, right, bottom = (int(m) for m in margins)
    room = size - left - right, size - top - bottom
    scale = min(room[0] / ink.width, room[1] / ink.height)
    width, height = (max(1, round(scale * side)) for side in ink.size)
    frame = Image.new("L", (size, size))
    corner = left + (room[0] - width) // 2, top + (room[1] - height) // 2
    frame.paste(ink.resize((width, height), Image.Resampling.BOX), corner)
    return np.asarray(frame, dtype=np.float32) / 255
