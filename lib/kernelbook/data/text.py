"""Frozen text: docstrings of scientific Python packages, and sources of the standard library."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[3] / "book" / "data" / "text"
SHA256 = {
    "docstrings": "22f1f7d0ca547b27995460d3ec373cfa62cb3263fb0edd9ae9c63c0ea5d3d88f",
    "sources": "4ed70f9ecae1b297789dd5f38e8e7f6d29a202f99bf1bb77d2c9b6bf7a966629",
}


@dataclass(frozen=True)
class Text:
    """One text: where it comes from (package, module.name), and the words themselves, in ASCII."""

    package: str
    name: str
    text: str


def corpus(name: str) -> list[Text]:
    """The texts of a corpus, in a fixed order: "docstrings" (200 to 1,200 characters each) or "sources" (150 to 1,200).

    Raises ValueError for another name, and RuntimeError where the file is not the one that was frozen.
    Source: NumPy, SciPy, scikit-learn, scikit-image, NetworkX, PyTorch (BSD-3-Clause) and Python (PSF-2.0), as of
    November 2026; licenses beside the files, and `tools/make_text.py` shows how they were made.
    """
    if name not in SHA256:
        raise ValueError(f"name={name!r}: expected one of {', '.join(SHA256)}")
    data = (FOLDER / f"{name}.jsonl").read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise RuntimeError(f"{name}.jsonl has SHA-256 {found[:12]}..., not {SHA256[name][:12]}...: git restores the frozen file")
    return [Text(**json.loads(line)) for line in data.decode("ascii").splitlines()]
