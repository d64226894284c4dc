"""Recorded seeds: the seeds that do not fit a chapter's budget, kept in a file that knows the code that made it."""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import os
import symtable
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kernelbook.evidence import house, run
from kernelbook.evidence.source import code_hash
from kernelbook.evidence.stats import t_quantile

CLEARANCE = 4.0  # standard errors between the recorded mean and the bound
AGREEMENT = 2.87e-7  # one-sided probability of five standard deviations


class RecordMissing(RuntimeError):
    """No record, or one that other code made."""


@dataclass(frozen=True)
class Recorded:
    """This run's value and the recorded ones; a claim takes it as `measured`, and `r["name"]` picks one of several."""

    live: Any
    values: tuple[Any, ...]

    def __getitem__(self, key: str) -> Recorded:
        return Recorded(self.live[key], tuple(v[key] for v in self.values))

    def against(self, allowed: tuple[float, float]) -> dict[str, Any]:
        """Decide a bound: the recorded mean clears it by four of its standard errors, and the live value fits the record."""
        if not isinstance(self.live, float):
            raise ValueError(f"measured={self.live!r}: expected a single number; pick one with recorded(...)['name']")
        n, mean = len(self.values), math.fsum(self.values) / len(self.values)
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in self.values) / (n - 1))
        clear = CLEARANCE * sd / math.sqrt(n)
        agrees = abs(self.live - mean) <= t_quantile(1 - AGREEMENT, n - 1) * sd * math.sqrt(1 + 1 / n) + 1e-9 * abs(mean)
        met = allowed[0] < mean - clear and mean + clear < allowed[1] and agrees
        record = dict(n=n, mean=mean, sd=sd, agrees=agrees)
        nearest = mean + clear if mean + clear - allowed[1] > allowed[0] - (mean - clear) else mean - clear
        return dict(measured=self.live, interval=None, per_seed=None, n=1, decides=nearest, recorded=record, met=met)


def _globals_named(source: str) -> set[str]:
    """The global names that source uses: a loop variable is not one, though a constant elsewhere may bear its name."""
    tables = [symtable.symtable(source, "<compute>", "exec")]
    names: set[str] = set()
    while tables:
        table = tables.pop()
        names |= {s.get_name() for s in table.get_symbols() if s.is_global() and s.is_referenced()}
        tables += table.get_children()
    return names


def _parts(value: Any) -> list[Any]:
    """The functions of a class, which inspect finds in a notebook too, where it finds no class."""
    if not inspect.isclass(value):
        return [inspect.unwrap(value)]
    found = []
    for part in vars(value).values():
        part = getattr(part, "fget", None) or getattr(part, "__func__", part)
        if inspect.isfunction(part) and part.__code__.co_filename != "<string>":  # what dataclass writes has no source
            found.append(inspect.unwrap(part))
    return found


def _source(function: Any) -> tuple[str, set[str]]:
    """A hash of what a function does, and the names it finds beside it."""
    source = textwrap.dedent(inspect.getsource(function))
    try:
        return code_hash(source), _globals_named(source)
    except SyntaxError:  # a lambda's source is the lines that it stands on, which may begin in the middle of a call
        return hashlib.sha256(source.encode()).hexdigest()[:20], set(function.__code__.co_names)


def source_key(compute: Callable[..., Any]) -> str:
    """A hash of compute's source, of the functions and classes beside it that it names, alone or in a list, tuple or dict,
    and of the constants, alone or in a tuple (what a list or a dict holds may depend on the seed)."""
    seen: set[str] = set()
    met: set[int] = set()
    queue: list[Any] = [compute]

    def meet(name: str, value: Any, constants: bool = True) -> None:
        if inspect.isroutine(value) or inspect.isclass(value):
            if getattr(value, "__module__", None) == compute.__module__:
                queue.append(value)
        elif isinstance(value, (int, float, str, bool)) and constants:
            seen.add(f"{name}={value!r}")
        elif isinstance(value, (list, tuple, dict)):
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                meet(f"{name}[{key!r}]", part, constants and isinstance(value, tuple))

    while queue:
        f = queue.pop()
        if id(f) in met:
            continue
        met.add(id(f))
        name = getattr(f, "__qualname__", repr(f))
        if inspect.isclass(f):
            for base in f.__bases__:
                meet(name, base)
            for key, value in vars(f).items():
                if not key.startswith("__") and not inspect.isroutine(value):
                    meet(f"{name}.{key}", value)
        for part in _parts(f):
            key, names = _source(part)
            seen.add(f"{name}: {key}")
            for beside in names & set(part.__globals__):
                meet(beside, part.__globals__[beside])
    return hashlib.sha256(json.dumps(sorted(seen)).encode()).hexdigest()[:20]


def _plain(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v, name) for k, v in value.items()}
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"recorded {name!r}: compute gave {number}; expected finite numbers")
    return number


def _live(name: str, compute: Callable[[int], Any]) -> Any:
    """What compute gives for this run's seed, which is never one of the recorded ones."""
    return _plain(compute(run.seeds(1, f"live/{name}")[0]), name)


def recorded(name: str, compute: Callable[[int], Any], seeds: int = 20) -> Recorded:
    """compute(seed) for this run's seed, live, and for `seeds` other seeds out of `book/data/recorded/`.

    name: the file's name, unique in the book.  compute: seed -> number, or a dict of named numbers.
    Raises RecordMissing where there is no record, or compute's source has changed since (`make record` remakes it).
    """
    if seeds < 3:
        raise ValueError(f"seeds={seeds!r}: expected at least 3 recorded seeds, or no spread can be told")
    if os.environ.get("KERNELBOOK_SMOKE") == "1":  # walks the code; there is no record at shrunken constants
        return Recorded(live := _live(name, compute), (live,) * seeds)
    suffix = "" if run.scale == "quick" else f"-{run.scale}"
    path = house.book() / "data" / "recorded" / f"{name}{suffix}.json"
    key = source_key(compute)
    if os.environ.get("KERNELBOOK_RECORD") == "1":
        values = [_plain(compute(run._derived(f"record/{name}/{i}", 0, bits=53)), name) for i in range(seeds)]
        house.write_json(path, dict(name=name, key=key, seeds=seeds, scale=run.scale, values=values))
    if not path.exists():
        raise RecordMissing(f"no record {path.name}: make it with `make record C=PART/CHAPTER`")
    stored = json.loads(path.read_text("utf8"))
    if stored["key"] != key or stored["seeds"] != seeds:
        raise RecordMissing(
            f"record {path.name} was made by other code than compute={compute.__name__}: `make record C=PART/CHAPTER` remakes it"
        )
    return Recorded(_live(name, compute), tuple(stored["values"]))
