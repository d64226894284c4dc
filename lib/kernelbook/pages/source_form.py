"""The one form of a chapter's source: what Jupytext writes, so that saving in JupyterLab changes nothing that was not edited."""

from __future__ import annotations

import tomllib

from kernelbook.evidence import house


def canonical(text: str) -> str:
    """A MyST notebook's text as Jupytext writes it under `jupytext.toml`."""
    import jupytext

    settings = tomllib.loads((house.PACKAGE.parents[1] / "jupytext.toml").read_text("utf8"))
    notebook = jupytext.reads(text, fmt="md:myst")
    filters = {k: v for k, v in settings.items() if k.endswith("_filter")}
    notebook.metadata.setdefault("jupytext", {}).update(filters)
    return str(jupytext.writes(notebook, fmt="md:myst"))
