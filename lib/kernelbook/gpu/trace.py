"""Every word that a kernel loads and stores, counted in Triton's interpreter; an address outside its tensors is an error."""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from kernelbook.gpu import launch


class OutOfBounds(IndexError):
    """A kernel read or wrote outside the tensors it was given."""


@dataclass
class Trace:
    """Words that passed between programs and tensors, by the kernel's name for the tensor."""

    loads: Counter[str] = field(default_factory=Counter)
    stores: Counter[str] = field(default_factory=Counter)
    launches: int = 0
    _tensors: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def words(self) -> int:
        """All loads and all stores."""
        return self.loads.total() + self.stores.total()

    def _launched(self, kernel: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.launches += 1
        named = zip(inspect.signature(kernel).parameters, arguments, strict=False)
        spans = [(n, a.data_ptr(), a.data_ptr() + a.numel() * a.element_size()) for n, a in named if isinstance(a, torch.Tensor)]
        self._tensors = spans

    def _accessed(self, counts: Counter[str], addresses: Any, mask: Any, what: str) -> None:
        at = np.atleast_1d(addresses)
        flat = at[np.broadcast_to(np.atleast_1d(mask), at.shape).astype(bool)]
        known = np.zeros(flat.shape, dtype=bool)
        for name, start, end in self._tensors:
            inside = (flat >= start) & (flat < end)
            counts[name] += int((inside & ~known).sum())  # a tensor that is passed twice counts under its first name
            known |= inside
        if not known.all():
            raise OutOfBounds(f"{what} {int((~known).sum())} words outside the kernel's tensors")


@contextlib.contextmanager
def traced() -> Iterator[Trace]:
    """Count the loads and stores of every launch in this block.

    Raises OutOfBounds, as Triton's InterpreterError, at the first address that lies in none of the launch's tensors.
    Raises RuntimeError where kernels are compiled: only the interpreter shows its accesses.
    """
    import triton

    if not triton.knobs.runtime.interpret:
        raise RuntimeError("traced() needs Triton's interpreter: set TRITON_INTERPRET=1 before Triton is first imported")
    from triton.runtime.interpreter import InterpreterBuilder as Builder

    trace = Trace()
    load, store, atomic = Builder.create_masked_load, Builder.create_masked_store, Builder.create_atomic_rmw

    def watched_load(self: Any, ptrs: Any, mask: Any, *rest: Any) -> Any:
        trace._accessed(trace.loads, ptrs.data, mask.data, "read")
        return load(self, ptrs, mask, *rest)

    def watched_store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:
        trace._accessed(trace.stores, ptrs.data, mask.data, "wrote")
        return store(self, ptrs, value, mask, *rest)

    def watched_atomic(self: Any, op: Any, ptr: Any, val: Any, mask: Any, *rest: Any) -> Any:
        trace._accessed(trace.stores, ptr.data, mask.data, "changed")
        return atomic(self, op, ptr, val, mask, *rest)

    launch.watchers.append(trace._launched)
    try:
        with (
            patch.object(Builder, "create_masked_load", watched_load),
            patch.object(Builder, "create_masked_store", watched_store),
            patch.object(Builder, "create_atomic_rmw", watched_atomic),
        ):
            yield trace
    finally:
        launch.watchers.remove(trace._launched)
