"""Claims over fresh seeds: how often each holds, and how far the number that decides it stays from its bound.

`python -m kernelbook.evidence.survey survey|run|record ...`; `make survey`, `make chapter` and `make record` call it.
"""

from __future__ import annotations

import argparse
import logging
import math
import sys
import uuid
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import fmean, stdev
from typing import Any

from kernelbook.evidence import claims, execution, house, ledger

LEAST_SEEDS = 20
RECORD_LIMIT_S = 4 * 3600  # a record holds twenty seeds of what did not fit the budget once
LEAST_MARGIN = 4.0
MOST_HELD_IF_ABSENT = 0.2

Runs = dict[str, dict[int, list[dict[str, Any]]]]


def margin(ends: list[list[float]], allowed: tuple[float, float]) -> float | None:
    """Standard deviations between the deciding end of the interval and its bound, over runs; None if it never varies.

    ends: (lo, hi) of each run, equal where one number was measured.  allowed: the range of the bound.
    """
    distances = []
    for side, bound, sign in ((0, allowed[0], 1), (1, allowed[1], -1)):
        values = [e[side] for e in ends]
        if math.isfinite(bound) and (spread := stdev(values)) > 0:
            distances.append(sign * (fmean(values) - bound) / spread)
    return min(distances) if distances else None


def summarize(records: list[dict[str, Any]]) -> dict[str, Any]:
    """One claim's records, one per seed, as a survey row."""
    first = records[0]
    row: dict[str, Any] = dict(kind=first["kind"], bound=first["bound"], verdict=first["verdict"], runs=len(records))
    if first["bound"] is None:
        return row | dict(held=None, margin=None, values=[])
    ends = [r["interval"] or [r["measured"]] * 2 for r in records if r["measured"] is not None]
    values = [r["measured"] for r in records]
    verdicts = {r["verdict"] for r in records} - {claims.FAILS}
    row |= dict(
        verdict=verdicts.pop() if len(verdicts) == 1 else claims.FAILS,
        held=sum(bool(r["met"]) for r in records) / len(records),
        values=values,
        mean=fmean(e[0] / 2 + e[1] / 2 for e in ends),
        sd=stdev([e[0] / 2 + e[1] / 2 for e in ends]) if len(ends) > 1 else None,
        margin=margin(ends, claims.allowed_range(first)) if len(ends) > 1 else None,
    )
    if first["recorded"]:
        r = first["recorded"]
        row["margin"] = (
            margin([[r["mean"]] * 2] * 2, claims.allowed_range(first))
            if not r["sd"]
            else _record_margin(r, claims.allowed_range(first))
        )
    return row


def _record_margin(record: dict[str, Any], allowed: tuple[float, float]) -> float:
    """Standard errors between a record's mean and the nearer bound."""
    error = record["sd"] / math.sqrt(record["n"])
    return min((record["mean"] - allowed[0]) / error, (allowed[1] - record["mean"]) / error)


def defects(row: dict[str, Any], name: str) -> list[str]:
    """What is wrong with a survey row; an empty list where nothing is."""
    if row["held"] is None:
        return []
    found = []
    if row["verdict"] == claims.ABSENT:
        if row["held"] >= MOST_HELD_IF_ABSENT:
            found.append(f"{name}: said not to hold, but held on {row['held']:.0%} of {row['runs']} seeds")
        return found
    if row["held"] < 1:
        found.append(f"{name}: held on {row['held']:.0%} of {row['runs']} seeds")
    if row["margin"] is not None and row["margin"] < LEAST_MARGIN:
        found.append(f"{name}: margin {row['margin']:.1f} standard deviations; expected at least {LEAST_MARGIN:g}")
    if row["kind"] != "identity" and len({v for v in row["values"] if v is not None}) < 2:
        found.append(f"{name}: measured the same value on every seed")
    return found


def _job(name: str, seed: int, scale: str) -> tuple[list[dict[str, Any]], str]:
    """One chapter under one seed, in the checkout of the machine that runs it: its claims' records, or why there are none."""
    settings, path = execution.Settings(seed, scale, survey=True), execution.find(name)
    try:
        execution.bring_up_to_date(path, settings)
    except execution.ChapterFailed as failure:
        return [], f"{failure.place}: {failure.summary}"
    return ledger.outputs_of(execution.results(path, settings)[0], claims.MIME), ""


@contextmanager
def _cluster(scheduler: str, jobs: int) -> Iterator[Any]:
    """A Dask client of the scheduler at an address, or of worker processes of this machine."""
    import distributed

    if scheduler and not scheduler.startswith(("tcp://", "tls://")):
        raise ValueError(f"scheduler={scheduler!r}: expected an address such as tcp://192.0.2.1:8786")
    with ExitStack() as stack:
        try:
            if not scheduler:
                workers = dict(n_workers=jobs, threads_per_worker=1, host="127.0.0.1")
                local = distributed.LocalCluster(**workers, dashboard_address=None, silence_logs=logging.ERROR)
                stack.enter_context(local)
            client = stack.enter_context(distributed.Client(scheduler or local, timeout="20s"))
        except OSError as error:
            raise ValueError(f"scheduler={scheduler!r}: nobody answers there; start one with `dask scheduler`") from error
        yield client


def _collect(names: list[str], seeds: list[int], scale: str, jobs: int, scheduler: str) -> tuple[Runs, list[str]]:
    """Run every chapter under every seed on Dask.  A worker that dies loses nothing: its job goes to another."""
    from distributed import as_completed

    found: Runs = {n: {} for n in names}
    errors: list[str] = []
    total = len(names) * len(seeds)
    with _cluster(scheduler, jobs) as client:
        # keys of this survey alone, so that no scheduler answers with an older survey's runs
        mark = uuid.uuid4().hex[:8]
        waiting = {client.submit(_job, n, s, scale, key=f"{n}-{s}-{mark}"): (n, s) for n in names for s in seeds}
        for done, future in enumerate(as_completed(waiting), 1):
            name, seed = waiting[future]
            records, error = future.result() if future.status == "finished" else ([], f"lost: {future.exception()}")
            if error:
                errors.append(f"{name}, seed {seed}: {error}")
            else:
                found[name][seed] = records
            print(f"{done} of {total} runs: {name}, seed {seed}", flush=True)
    return found, errors


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Survey rows as lines of text."""
    head = f"{'claim':46s} {'held':>5s} {'mean':>11s} {'sd':>9s} {'bound':>22s} {'margin':>7s}  verdict"
    lines = [head, "-" * len(head)]
    for name, r in rows.items():
        if r["held"] is None:
            lines.append(f"{name:46s} {'':5s} {'':11s} {'':9s} {'':22s} {'':7s}  {r['verdict']}")
            continue
        margin_text = "exact" if r["margin"] is None else f"{r['margin']:.1f}"
        sd = "" if r["sd"] is None else f"{r['sd']:.2g}"
        bound = claims.bound_text(r)
        lines.append(f"{name:46s} {r['held']:5.0%} {r['mean']:11.4g} {sd:>9s} {bound:>22s} {margin_text:>7s}  {r['verdict']}")
    return "\n".join(lines)


def survey(names: Iterable[str], seeds: list[int], jobs: int = 2, scheduler: str = "", scale: str = "quick") -> list[str]:
    """Survey chapters, print a table for each, keep it in `book/data/survey/`, and return what is wrong.

    scheduler: address of a Dask scheduler whose workers have this checkout; `jobs` processes of this machine where empty.
    Raises ValueError for an unknown chapter, under two seeds, or where no scheduler answers.
    """
    if len(seeds) < 2:
        raise ValueError(f"SEEDS={len(seeds)}: expected at least 2, and {LEAST_SEEDS} for a record")
    paths = [execution.find(n) for n in names] or [p for p in execution.notebooks() if p.parent.name != "solutions"]
    found, wrong = _collect([execution.read(p).name for p in paths], seeds, scale, jobs, scheduler)
    for path in paths:
        name = execution.read(path).name
        runs = found[name]
        ids = dict.fromkeys(r["id"] for s in sorted(runs) for r in runs[s])
        rows = {i: summarize([r for s in sorted(runs) for r in runs[s] if r["id"] == i]) for i in ids}
        print(f"\n{name}, {len(runs)} seeds\n{table(rows)}")
        wrong += [d for i, row in rows.items() for d in defects(row, i)]
        if len(runs) >= LEAST_SEEDS and scale == "quick":
            made = dict(chapter=name, seeds=sorted(runs), code=execution.code_key(execution.read(path)), claims=rows)
            house.write_json(house.book() / "data" / "survey" / f"{name}.json", made)
    return wrong


def _run(name: str, **extra: str) -> int:
    settings = execution.settings_from_environment()
    settings = execution.Settings(settings.seed, settings.scale, tuple(extra.items()))
    path = execution.find(name)
    try:
        limit = RECORD_LIMIT_S if "KERNELBOOK_RECORD" in extra else execution.LIMIT_S
        how = execution.bring_up_to_date(path, settings, limit, force=True)
    except execution.ChapterFailed as failure:
        print(f"{failure.place}: {failure.summary}\n\n{failure.listing}\n\n{failure.trace}")
        return 1
    stamp = execution.stamp_of(path, settings) or {}
    print(f"{name}: {how}, {stamp.get('core_seconds')} core-seconds (budget 45, or what its card says)")
    for record in ledger.outputs_of(execution.results(path, settings)[0], claims.MIME):
        print(claims.Claim(record))
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line: survey, run, record."""
    parser = argparse.ArgumentParser(prog="python -m kernelbook.evidence.survey", description=__doc__)
    parser.add_argument("what", choices=("survey", "run", "record"))
    parser.add_argument("chapters", nargs="*", help="such as width/tangent; survey takes all where none is named")
    parser.add_argument("--seeds", type=int, default=LEAST_SEEDS, help="how many values of KERNELBOOK_SEED")
    parser.add_argument("--first", type=int, default=1, help="the first of them")
    parser.add_argument("--jobs", type=int, default=2, help="how many runs at once")
    parser.add_argument("--scheduler", default="", help="address of a Dask scheduler, such as tcp://192.0.2.1:8786")
    parser.add_argument("--scale", default="quick", choices=house.SCALES, help="the scale of the runs")
    a = parser.parse_intermixed_args(arguments)
    try:
        if a.what == "survey":
            seeds = list(range(a.first, a.first + a.seeds))
            wrong = survey([c for c in a.chapters if c], seeds, a.jobs, a.scheduler, a.scale)
            print("\n".join(["", *wrong, f"{len(wrong)} defects"]))
            return min(len(wrong), 1)
        if not any(a.chapters):
            raise ValueError("C is empty: name a chapter, as in `make chapter C=width/tangent`")
        extra = {"KERNELBOOK_RECORD": "1"} if a.what == "record" else {}
        return max(_run(c, **extra) for c in a.chapters)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    # by its own name, so that workers find the jobs' function in the library and not in a script
    from kernelbook.evidence.survey import main as entry

    sys.exit(entry())
