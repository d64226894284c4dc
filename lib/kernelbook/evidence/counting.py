"""Counts of calls, which may decide a claim, and seconds as ratios in one run, which inform the reader and decide nothing."""

from __future__ import annotations

import html
import platform
import time
from collections.abc import Callable
from statistics import median
from typing import Any

MIME = "application/vnd.kernelbook.timing+json"


class CallCounter:
    """A function that counts how often it is asked: `calls`, and `items`, the rows that it was asked about in all.

    f: takes rows as its last argument; what it returns is passed on.
    Raises ValueError if f cannot be called, or is called without an argument.
    """

    def __init__(self, f: Callable[..., Any]):
        if not callable(f):
            raise ValueError(f"f={f!r}: expected a function")
        self.f, self.calls, self.items = f, 0, 0

    def __call__(self, *args: Any) -> Any:
        if not args:
            raise ValueError("args=(): expected at least one argument, the rows to count")
        self.calls += 1
        self.items += len(args[-1])
        return self.f(*args)


class Timing:
    """What `time_ratio` returns: a record that draws itself as a box."""

    def __init__(self, record: dict[str, Any]):
        self.record = record

    def __repr__(self) -> str:
        return timing_text(self.record)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = html.escape(repr(self))
        box = f'<div style="border-left:4px dotted #6b6f76;padding:.3em .8em">⏱ {text}</div>'
        return {MIME: self.record, "text/html": box, "text/plain": repr(self)}


def timing_text(record: dict[str, Any]) -> str:
    """A timing's record in words."""
    r = record
    faster = r["peer_seconds"] / r["seconds"]
    ratio = f"{faster:.2g}× as fast as" if faster >= 1 else f"{1 / faster:.2g}× as slow as"
    return (
        f"{r['name']}: {ratio} {r['peer']} ({1e3 * r['seconds']:.3g} ms against {1e3 * r['peer_seconds']:.3g} ms, {r['machine']})"
    )


def machine_name() -> str:
    """The processor, or the GPU where the run has one."""
    import torch

    from kernelbook.evidence import run

    if run.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, one thread"


def time_ratio(name: str, ours: Callable[[], Any], peer: Callable[[], Any], peer_name: str, repeat: int = 9) -> Timing:
    """Median time of two callables in one run, taken in turn after a warm-up of each.  It decides no claim.

    Raises ValueError if repeat < 3.
    """
    if repeat < 3:
        raise ValueError(f"repeat={repeat!r}: expected at least 3, or the median means nothing")
    import torch

    def seconds(f: Callable[[], Any]) -> float:
        start = time.perf_counter()
        f()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(ours), seconds(peer)
    pairs = [(seconds(ours), seconds(peer)) for _ in range(repeat)]
    a, b = median(p[0] for p in pairs), median(p[1] for p in pairs)
    return Timing(dict(name=name, peer=peer_name, seconds=a, peer_seconds=b, repeat=repeat, machine=machine_name()))
