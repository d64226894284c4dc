"""One slider whose movement is the insight: live in JupyterLab, printed frames on the page."""

from __future__ import annotations

import base64
import html
import io
import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from typing import Any

from kernelbook.pages import figures

MOST_FRAMES = 40
DPI = 130

# Frame index = mixed-radix number of the sliders.  An attribute and no script element, so that it works in any page.
ON_INPUT = (
    "const r=this.closest('.kb-explore'),s=[...r.querySelectorAll('input')];let k=0;"
    "s.forEach(e=>{k=k*(+e.max+1)+ +e.value;const t=JSON.parse(e.dataset.values)[e.value];"
    "e.nextElementSibling.textContent=t;e.setAttribute('aria-valuetext',t)});"
    "r.querySelectorAll('img').forEach((m,i)=>m.hidden=i!==k)"
)


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


class Explorer:
    """A drawing function and the positions of its sliders."""

    def __init__(
        self,
        draw: Callable[..., None],
        positions: dict[str, Sequence[Any]],
        size: tuple[float, float],
        alt: str,
        start: dict[str, Any],
    ):
        self.draw, self.positions, self.size, self.alt, self.start = draw, positions, size, alt, start

    def __call__(self, fig: Any, **setting: Any) -> None:
        self.draw(fig, **setting)

    def settings(self) -> list[dict[str, Any]]:
        """Every combination of positions, the last slider moving fastest."""
        return [dict(zip(self.positions, v, strict=True)) for v in itertools.product(*self.positions.values())]

    def figure(self, **setting: Any) -> Any:
        """One frame as a matplotlib figure."""
        import matplotlib.pyplot as plt

        figures._use_house_style()
        fig = plt.figure(figsize=self.size, layout="constrained")
        self.draw(fig, **setting)
        return fig

    def frame(self, **setting: Any) -> bytes:
        """One frame as lossless WebP."""
        import matplotlib.pyplot as plt
        from PIL import Image

        fig, raw, packed = self.figure(**setting), io.BytesIO(), io.BytesIO()
        fig.savefig(raw, format="png", dpi=DPI)
        plt.close(fig)
        Image.open(raw).convert("RGB").save(packed, "WEBP", lossless=True, method=4)
        return packed.getvalue()

    def _image(self, setting: dict[str, Any]) -> str:
        data = base64.b64encode(self.frame(**setting)).decode()
        text = html.escape(f"{self.alt}: " + ", ".join(f"{k} = {_label(v)}" for k, v in setting.items()))
        hidden = "" if setting == self.start else " hidden"
        return f'<img alt="{text}" src="data:image/webp;base64,{data}" style="width:100%"{hidden}>'

    def _slider(self, name: str) -> str:
        values, at = [_label(v) for v in self.positions[name]], list(self.positions[name]).index(self.start[name])
        return (
            f'<label class="kb-slider"><span>{html.escape(name.replace("_", " "))}</span>'
            f'<input type="range" min="0" max="{len(values) - 1}" value="{at}" aria-valuetext="{html.escape(values[at])}" '
            f'data-values="{html.escape(json.dumps(values))}" oninput="{html.escape(ON_INPUT)}">'
            f"<output>{html.escape(values[at])}</output></label>"
        )

    def printed(self) -> str:
        """All frames and the sliders as one piece of HTML that needs no kernel and no network."""
        frames = "".join(self._image(s) for s in self.settings())
        sliders = "".join(self._slider(n) for n in self.positions)
        width = f"max-width:{self.size[0] * 105:.0f}px"
        label = f'role="group" aria-label="{html.escape(self.alt)}"'
        return f'<div class="kb-explore" {label} style="{width}">{sliders}<div>{frames}</div></div>'

    def live(self) -> Any:
        """The same sliders as ipywidgets, each frame drawn when its position is reached."""
        import ipywidgets
        import matplotlib.pyplot as plt

        def show(**setting: Any) -> None:
            self.figure(**setting)
            plt.show()

        sliders = {
            n: ipywidgets.SelectionSlider(
                options=[(_label(x), x) for x in v], value=self.start[n], description=n.replace("_", " "), continuous_update=False
            )
            for n, v in self.positions.items()
        }
        return ipywidgets.interactive(show, **sliders)

    def _ipython_display_(self) -> None:
        from IPython.display import HTML, display

        if os.environ.get("KERNELBOOK_SURVEY") == "1":
            return  # a survey reads claims, not pictures
        display(HTML(self.printed()) if os.environ.get("KERNELBOOK_STATIC") == "1" else self.live())


def explore(
    *, size: tuple[float, float] = (6.4, 3.6), alt: str, start: dict[str, Any] | None = None, **positions: Sequence[Any]
) -> Callable[[Callable[..., None]], Explorer]:
    """Decorator: turn `draw(fig, **setting)` into an explorer with one slider per keyword, at the given positions.

    size: inches of a frame.  alt: what the frames show, read out before the setting.
    start: the first setting (default: the middle).
    Raises ValueError where a slider has under two positions, or the frames are more than 40.
    """
    for name, values in positions.items():
        if len(values) < 2:
            raise ValueError(f"{name}={values!r}: expected at least two positions for a slider")
    frames = math.prod(len(v) for v in positions.values())
    if not positions or frames > MOST_FRAMES:
        raise ValueError(f"{frames} frames asked for by {', '.join(positions) or 'no slider'}: expected 2 to {MOST_FRAMES}")
    first = {n: (start or {}).get(n, v[len(v) // 2]) for n, v in positions.items()}
    for name, value in first.items():
        if value not in positions[name]:
            raise ValueError(f"start[{name!r}]={value!r}: expected one of {list(positions[name])!r}")
    return lambda draw: Explorer(draw, {n: list(v) for n, v in positions.items()}, size, alt, first)
