"""One declaration per kernel; its tests, mutants, compile check, benchmark and hardware row are made from it."""

from __future__ import annotations

import ast
import hashlib
import importlib
import inspect
import pkgutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

Inputs = dict[str, Any]
NOT_KERNELS = ("launch", "registry", "check", "mutants", "trace", "benchmark", "cards")


@dataclass(frozen=True)
class Case:
    """One input of the tests: small, and awkward (odd sizes, size 1, no multiple of a block).

    make: (generator, dtype) -> keyword arguments of launcher and reference, tensors on the CPU.
    gradients: the arguments in which the derivative is checked too.
    tuning: arguments of the launcher alone, such as a block size that makes a small input take several programs.
    dtypes: those it is meant for, where that is not all that the kernel is held to.
    """

    name: str
    make: Callable[[torch.Generator, torch.dtype], Inputs]
    gradients: tuple[str, ...] = ()
    tuning: Mapping[str, Any] = field(default_factory=dict)
    dtypes: tuple[torch.dtype, ...] = ()


@dataclass(frozen=True)
class Target:
    """One compilation, done for every architecture.

    signature: type of each argument, in order, without the constexprs.
    aligned: sizes and strides taken to be multiples of 16, as Triton finds out itself at a launch; pointers always are.
    """

    kernel: Callable[..., Any]
    signature: dict[str, str]
    constexprs: dict[str, Any]
    helpers: tuple[Callable[..., Any], ...] = ()
    warps: int = 4
    stages: int = 3
    aligned: tuple[str, ...] = ()


@dataclass(frozen=True)
class Work:
    """What a computation must do at the least: bytes to and from main memory, flops, and exponentials or logarithms.

    unit: the ceiling that the flops run against: fp64, fp32, tf32, bf16, fp16 or int8.
    """

    bytes: float
    flops: float = 0.0
    unit: str = "fp32"
    special: float = 0.0

    @property
    def intensity(self) -> float:
        """Flops per byte of main memory."""
        return self.flops / self.bytes


@dataclass(frozen=True)
class Bench:
    """One timed input.  peers: name -> (inputs -> a call without arguments); what the outer call prepares is not timed."""

    name: str
    make: Callable[[torch.Generator, torch.dtype, torch.device], Inputs]
    dtype: torch.dtype
    work: Callable[[Inputs], Work]
    peers: dict[str, Callable[[Inputs], Callable[[], Any]]] = field(default_factory=dict)
    devices: tuple[str, ...] = ("cuda",)


@dataclass(frozen=True)
class Kernel:
    """A kernel's declaration.

    launcher, reference: take the same keyword arguments; launcher also takes backend.
    kernels: the Triton functions, helpers too, of which mutants are made.
    tolerance: by dtype, the largest |y - exact| as a fraction of the scale.
    exact: the truth, on float64 copies of the rounded inputs (default: the reference).
    scale: (float64 inputs, exact) -> scale of the errors, a number or elementwise (default: the largest |exact|).
    gradient_tolerance: as a fraction of the largest |exact gradient| (default: four times the tolerance).
    equivalent: mutant -> the reason why no input can tell it from the kernel.
    """

    name: str
    formula: str
    launcher: Callable[..., Any]
    reference: Callable[..., Any]
    kernels: tuple[Callable[..., Any], ...]
    cases: tuple[Case, ...]
    tolerance: Mapping[torch.dtype, float]
    targets: tuple[Target, ...]
    benches: tuple[Bench, ...] = ()
    exact: Callable[..., Any] | None = None
    scale: Callable[[Inputs, torch.Tensor], Any] | None = None
    gradient_tolerance: Mapping[torch.dtype, float] | None = None
    equivalent: Mapping[str, str] = field(default_factory=dict)

    def checks(self) -> list[tuple[Case, torch.dtype]]:
        """Every case in every dtype that it is meant for, the tightest first."""
        strict = sorted(self.tolerance, key=lambda d: self.tolerance[d])
        return [(c, d) for c in self.cases for d in strict if not c.dtypes or d in c.dtypes]

    @property
    def source_hash(self) -> str:
        """A hash of what the Triton functions do, by which a page tells that a measurement is older than the kernel."""
        trees = [_code(f) for f in self.kernels]
        return hashlib.sha256("\n".join(trees).encode()).hexdigest()[:20]


KERNELS: dict[str, Kernel] = {}


def normal(generator: torch.Generator, dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Standard normal numbers, drawn in float64 and rounded: the same ones in every dtype."""
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def register(kernel: Kernel) -> Kernel:
    """Enter a kernel.  Raises ValueError for a name that is taken, and for a declaration that nothing could be tested with."""
    if kernel.name in KERNELS and KERNELS[kernel.name].launcher.__module__ != kernel.launcher.__module__:
        raise ValueError(f"name={kernel.name!r}: {KERNELS[kernel.name].launcher.__module__} has registered it already")
    for part in ("kernels", "cases", "tolerance", "targets"):
        if not getattr(kernel, part):
            raise ValueError(f"{part} of kernel {kernel.name!r} is empty: expected at least one")
    KERNELS[kernel.name] = kernel
    return kernel


def load() -> dict[str, Kernel]:
    """Every kernel of the room, by name."""
    package = importlib.import_module("kernelbook.gpu")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in NOT_KERNELS:
            importlib.import_module(f"kernelbook.gpu.{module.name}")
    return dict(sorted(KERNELS.items()))


def named(names: list[str]) -> list[Kernel]:
    """The kernels of these names, or all where there are none.  Raises ValueError for a name that is not registered."""
    kernels = load()
    for name in names:
        if name not in kernels:
            raise ValueError(f"no kernel is called {name!r}: expected one of {', '.join(kernels)}")
    return [kernels[name] for name in names or kernels]


def function_tree(function: Callable[..., Any]) -> ast.FunctionDef:
    """The syntax tree of a plain function, docstring taken out."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    if ast.get_docstring(tree) is not None:
        tree.body = tree.body[1:] or [ast.Pass()]
    return tree


def _code(function: Callable[..., Any]) -> str:
    return ast.dump(function_tree(function))
