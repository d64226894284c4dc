"""Seed, device and scale of this run: the one door through which randomness enters the book."""

from __future__ import annotations

import hashlib
import os
import sys
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
import torch

from kernelbook.evidence import house

T = TypeVar("T")


def _device_from_environment() -> torch.device:
    text = os.environ.get("KERNELBOOK_DEVICE", "")
    if text == "cuda" and not torch.cuda.is_available():
        raise ValueError("KERNELBOOK_DEVICE='cuda': torch sees no CUDA device here; unset it to run on the CPU")
    if text not in ("", "cpu", "cuda"):
        raise ValueError(f"KERNELBOOK_DEVICE={text!r}: expected 'cpu' or 'cuda'")
    return torch.device(text or ("cuda" if torch.cuda.is_available() else "cpu"))


seed: int = house.seed_from_environment()
scale: str = house.scale_from_environment()
device: torch.device = _device_from_environment()


def start(interpret: bool = False) -> None:
    """First call of every chapter: one core per process, and Triton's interpreter where there is no GPU.

    interpret: whether the chapter runs Triton kernels.
    Raises RuntimeError where Triton is not installed, or was imported for compilation before this call: it chooses once.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if interpret and find_spec("triton") is None:
        raise RuntimeError("this chapter runs Triton kernels, and Triton exists for Linux only: use Linux, WSL2 or a container")
    if not interpret or device.type == "cuda":
        return
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("run.start(interpret=True) came after `import triton`: restart the kernel and call it first")
    os.environ["TRITON_INTERPRET"] = "1"


def _derived(name: str, seed_: int | None, bits: int = 63) -> int:
    """An integer below 2**bits that depends on the name and on the seed, and on nothing else."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"name={name!r}: expected a non-empty string that says what the randomness is for")
    base = seed if seed_ is None else seed_
    digest = hashlib.sha256(f"{base}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - bits)


def seeds(n: int, name: str = "seeds") -> list[int]:
    """n distinct seeds of this run, for `seed=` of `generator` and `rng`; a second name gives a second list.

    Raises ValueError if n is not a positive whole number.
    """
    if not isinstance(n, int) or n < 1:
        raise ValueError(f"n={n!r}: expected a positive whole number of seeds")
    return [_derived(f"{name}/{i}", None, bits=53) for i in range(n)]


def generator(name: str, seed: int | None = None, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for the draw called `name`; under another `KERNELBOOK_SEED` it draws something else.

    seed: one of `seeds(n)`, for repetitions within a run.  device: where the numbers are made.
    """
    return torch.Generator(device=device).manual_seed(_derived(name, seed))


def rng(name: str, seed: int | None = None) -> np.random.Generator:
    """A NumPy generator for the draw called `name`; arguments as in `generator`."""
    return np.random.default_rng(_derived(name, seed))


def pick(*, quick: T, full: T, smoke: T | None = None) -> T:
    """The constant for this run's scale: `quick` fits a laptop, `full` is as near to the paper as the code goes.

    smoke: a shrunken stand-in for `full`, with which the tests walk the full-scale path in seconds (default: `quick`).
    """
    if scale == "full" and os.environ.get("KERNELBOOK_SMOKE") == "1":
        return quick if smoke is None else smoke
    return full if scale == "full" else quick
