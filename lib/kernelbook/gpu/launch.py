"""What every launcher shares: Triton on first use, the choice of backend, and the checks of its tensors."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

BACKENDS = ("auto", "triton", "reference")
FLOATS = (torch.float32, torch.float64)
watchers: list[Callable[..., None]] = []  # told of every launch: (kernel, arguments)
_ready: dict[Callable[..., Any], Any] = {}


def jitted(kernel: Callable[..., Any], helpers: tuple[Callable[..., Any], ...] = ()) -> Any:
    """The kernel made ready by Triton, which is imported here, on first use: it exists for Linux only.

    helpers: the device functions it calls, callees first; each becomes known to the kernel's module in its compiled form.
    Raises RuntimeError where Triton is missing.
    """
    for function in (*helpers, kernel):
        if function not in _ready:
            _ready[function] = _made_ready(function)
    for helper in helpers:  # at every call: a mutant may have stood in for it meanwhile
        kernel.__globals__[helper.__name__] = _ready[helper]
    return _ready[kernel]


def _made_ready(function: Callable[..., Any]) -> Any:
    try:
        import triton
        import triton.language as tl
    except ImportError as missing:
        raise RuntimeError(
            "backend='triton' needs Triton, which exists for Linux only; use backend='reference' on this machine"
        ) from missing
    function.__globals__["tl"] = tl
    return triton.jit(function)


def launch(
    kernel: Callable[..., Any],
    grid: tuple[int, ...],
    *arguments: Any,
    helpers: tuple[Callable[..., Any], ...] = (),
    **constants: Any,
) -> None:
    """Run a kernel on a grid of programs, on the device of its first tensor.

    constants: the kernel's constexprs, and Triton's num_warps and num_stages.
    """
    tensor = next(a for a in arguments if isinstance(a, torch.Tensor))
    for told in watchers:
        told(kernel, arguments)
    with torch.cuda.device_of(tensor):  # Triton launches on the current device, which need not be that of the tensors
        jitted(kernel, helpers)[grid](*arguments, **constants)


def uses_triton(backend: str, tensor: torch.Tensor) -> bool:
    """Whether this call takes the Triton kernel: "auto" does if and only if the tensor is on CUDA.

    Raises ValueError for an unknown backend, and for Triton on the CPU outside its interpreter.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r}: expected one of {BACKENDS}")
    if backend == "triton" and not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise ValueError(
            f"backend='triton' with tensors on {tensor.device}: expected CUDA tensors, "
            "or TRITON_INTERPRET=1 in the environment before Triton is first imported"
        )
    return backend == "triton" or (backend == "auto" and tensor.is_cuda)


def check_tensors(dtypes: tuple[torch.dtype, ...], **tensors: torch.Tensor) -> None:
    """Every tensor has one of the dtypes, the same one as the first and on its device, and lies contiguous in memory.

    Raises ValueError naming the argument that does not fit, what it is, and what was expected.
    """
    first_name, first = next(iter(tensors.items()))
    names = " or ".join(str(d).removeprefix("torch.") for d in dtypes)
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise ValueError(f"{name} is {type(tensor).__name__}: expected a {names} tensor")
        if tensor.dtype not in dtypes:
            raise ValueError(f"{name} has dtype {tensor.dtype}: expected {names}")
        if tensor.dtype != first.dtype:
            raise ValueError(f"{name} has dtype {tensor.dtype}: expected {first.dtype}, as {first_name}")
        if tensor.device != first.device:
            raise ValueError(f"{name} is on {tensor.device}: expected {first.device}, where {first_name} is")
        if not tensor.is_contiguous():
            raise ValueError(f"{name} has strides {tensor.stride()}: expected contiguous memory, call .contiguous() first")
