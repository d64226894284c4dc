"""How fast are the kernels? `python -m kernelbook.gpu.benchmark [NAMES] [--device cpu|cuda]` measures and keeps a record.

Correctness comes first: a kernel that is wrong on this device is not timed. Then medians of many calls over inputs that
rotate past the last cache, as ratios to each peer in the same run, and as a fraction of the card's roofline.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from kernelbook.gpu import registry
from kernelbook.gpu.cards import Card, card_of
from kernelbook.gpu.check import WrongKernel, check
from kernelbook.gpu.registry import Bench, Inputs, Kernel

FEWEST, MOST, SECONDS = 7, 200, 1.0  # calls of one thing that is timed, and how long they may take in all
COPIES, CACHES = {"cuda": 16, "cpu": 3}, 3  # inputs that rotate: at most so many, until they fill so many caches


def folder() -> Path:
    """Where the records stand: book/data/gpu of this checkout (`KERNELBOOK_ROOT`, or the one the library is installed from)."""
    root = os.environ.get("KERNELBOOK_ROOT") or Path(__file__).resolve().parents[3]
    return Path(root) / "book" / "data" / "gpu"


def records() -> list[dict[str, Any]]:
    """Every record there is, the newest first."""
    found = [json.loads(p.read_text("utf8")) for p in sorted(folder().glob("*.json"))]
    return sorted(found, key=lambda r: r["date"], reverse=True)


def state(row: dict[str, Any]) -> str:
    """Whether a measurement is of the kernel as it stands: "current", "changed since", or "gone"."""
    kernel = registry.load().get(row["kernel"])
    return "gone" if kernel is None else "current" if kernel.source_hash == row["source"] else "changed since"


def device_name(device: str) -> str:
    """The GPU's name, or the processor's."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        names = []
    return f"{names[0] if names else platform.processor() or platform.machine()}, one thread"


def seconds_of(calls: list[Callable[[], Any]], device: str) -> tuple[float, int]:
    """Median seconds of one call, and of how many: the calls take turns, each after one that is not timed.

    On the CPU these are seconds of processor time.
    """
    for call in calls:
        call()
    timed = _cuda_seconds if device == "cuda" else _cpu_seconds
    taken: list[float] = []
    while len(taken) < FEWEST or (len(taken) < MOST and sum(taken) < SECONDS):
        taken.append(timed(calls[len(taken) % len(calls)]))
    return median(taken), len(taken)


def _cpu_seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()  # of all threads, and whatever else the machine is doing
    call()
    return time.process_time() - start


def _cuda_seconds(call: Callable[[], Any]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda._sleep(1_000_000)  # the call is queued before the clock starts, so that Python's own time is not counted
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3


def _rotating(bench: Bench, device: str, card: Card | None) -> list[Inputs]:
    """Copies of the input that together do not fit the last cache."""
    generator = torch.Generator()
    first = bench.make(generator, bench.dtype, torch.device(device))
    size = sum(v.numel() * v.element_size() for v in first.values() if isinstance(v, torch.Tensor))
    cache = card.l2 if card else 32 << 20
    copies = min(COPIES[device], 1 + int(CACHES * cache // max(size, 1)))
    return [first] + [{k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in first.items()} for _ in range(copies - 1)]


def _difference(a: Any, b: Any) -> float:
    """The largest difference between two results, as a fraction of the larger one's largest entry."""
    a, b = (torch.as_tensor(v).detach().double().cpu().flatten() for v in (a, b))
    return float((a - b).abs().max() / b.abs().max().clamp_min(1e-300))


def measure(kernel: Kernel, bench: Bench, device: str) -> dict[str, Any]:
    """Time one kernel and its peers on one input.  Returns a row of the record."""
    card = card_of(device_name(device)) if device == "cuda" else None
    inputs = _rotating(bench, device, card)
    seconds, calls = seconds_of([lambda i=i: kernel.launcher(**i) for i in inputs], device)  # type: ignore[misc]
    work = bench.work(inputs[0])
    row: dict[str, Any] = dict(
        kernel=kernel.name,
        input=bench.name,
        dtype=str(bench.dtype).removeprefix("torch."),
        source=kernel.source_hash,
        seconds=seconds,
        calls=calls,
        work=dict(bytes=work.bytes, flops=work.flops, unit=work.unit, special=work.special),
        peers={},
    )
    if card:
        row |= dict(card=card.name, bound=card.bound(work), roofline=card.floor(work) / seconds)
    ours = kernel.launcher(**inputs[0])
    for name, prepare in bench.peers.items():
        try:
            theirs = [prepare(i) for i in inputs]
            answer = theirs[0]()
        except ImportError as missing:
            row["peers"][name] = dict(skipped=f"not installed: {missing.name}")
            continue
        except torch.cuda.OutOfMemoryError:
            row["peers"][name] = dict(skipped="does not fit the memory")
            continue
        took, _ = seconds_of(theirs, device)
        row["peers"][name] = dict(seconds=took, ratio=took / seconds, differs=_difference(ours, answer))
    return row


def verify(kernel: Kernel, device: str) -> None:
    """Every case of a kernel, in every dtype, on this device.  Raises WrongKernel."""
    for case, dtype in kernel.checks():
        check(kernel, case, dtype, torch.Generator(), device)


def machine(device: str) -> dict[str, Any]:
    """What a record says of the machine it was made on."""
    try:
        import triton

        versions = dict(torch=torch.__version__, triton=triton.__version__)
    except ImportError:
        versions = dict(torch=torch.__version__)
    found = dict(device=device_name(device), kind=device, python=platform.python_version(), **versions)
    if device == "cuda":
        found |= dict(cuda=torch.version.cuda, capability=list(torch.cuda.get_device_capability()), driver=_driver())
    return found


def _driver() -> str:
    import subprocess

    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown"


def run(kernels: list[Kernel], device: str) -> dict[str, Any]:
    """Verify and time kernels on a device.  Returns the record; a wrong kernel is named in it and not timed."""
    rows, wrong = [], {}
    for kernel in kernels:
        benches = [b for b in kernel.benches if device in b.devices]
        if not benches:
            continue
        if device == "cuda":
            try:
                verify(kernel, device)
            except WrongKernel as said:
                wrong[kernel.name] = str(said)
                print(f"WRONG  {said}", flush=True)
                continue
        for bench in benches:
            rows.append(measure(kernel, bench, device))
            print(line(rows[-1]), flush=True)
    today = datetime.date.today().isoformat()
    return dict(
        machine(device), date=today, command=f"python -m kernelbook.gpu.benchmark --device {device}", rows=rows, wrong=wrong
    )


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    peers = ", ".join(
        f"{p['ratio']:.2f}x {name}" if "ratio" in p else f"{name} skipped ({p['skipped']})" for name, p in row["peers"].items()
    )
    roof = f", {row['roofline']:.0%} of the {row['bound']} bound" if "roofline" in row else ""
    return f"{row['kernel']}, {row['input']}, {row['dtype']}: {1e3 * row['seconds']:.3g} ms{roof}; {peers}"


def write(record: dict[str, Any], keep: bool) -> Path:
    """Write a record whole or not at all.  keep: rows of kernels that this run did not measure stay."""
    name = re.sub(r"[^a-z0-9]+", "-", record["device"].lower()).strip("-")
    path = folder() / f"{name}.json"
    if keep and path.exists():
        new = {r["kernel"] for r in record["rows"]} | set(record["wrong"])
        old = [r for r in json.loads(path.read_text("utf8"))["rows"] if r["kernel"] not in new]
        record = record | dict(rows=sorted([*old, *record["rows"]], key=lambda r: (r["kernel"], r["input"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record, indent=1) + "\n", "utf8")
    fresh.replace(path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """The command.  Returns how many kernels are wrong."""
    parser = argparse.ArgumentParser(prog="kernelbook.gpu.benchmark", description=__doc__)
    parser.add_argument("names", nargs="*", help="kernels (default: all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="cpu times the reference paths")
    parser.add_argument("--dry", action="store_true", help="print, and keep no record")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        print("No GPU is here: torch sees no CUDA device. `--device cpu` times the reference paths instead.", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    record = run(registry.named(chosen.names), chosen.device)
    if not chosen.dry:
        print(f"kept in {write(record, keep=bool(chosen.names)).name}")
    return len(record["wrong"])


if __name__ == "__main__":
    sys.exit(bool(main()))
