"""Is a kernel right? `python -m kernelbook.gpu.check forward|mutants|compile [NAMES]` runs what the tests run."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from kernelbook.gpu import registry
from kernelbook.gpu.registry import Case, Inputs, Kernel, Target
from kernelbook.gpu.trace import traced

GUARD = 4096  # elements before and after each tensor that a kernel must neither use nor change
ARCHITECTURES = (80, 90)
SHARED = {80: 163 * 1024, 90: 227 * 1024}  # bytes of shared memory that one block may have (CUDA C++ Programming Guide, table 27)


class WrongKernel(AssertionError):
    """A kernel gave what it should not; the text says on which input."""


class Guards:
    """Memory in which a mistake shows: fresh outputs are NaN, and so is what lies before and after every tensor."""

    def __init__(self) -> None:
        self.buffers: list[tuple[str, torch.Tensor, torch.Tensor]] = []

    def place(self, name: str, tensor: torch.Tensor) -> torch.Tensor:
        """A copy of the tensor between two guard zones."""
        return self.fresh(name, tensor.shape, tensor.dtype, tensor.device).copy_(tensor)

    def fresh(self, name: str, shape: Any, dtype: torch.dtype, device: Any) -> torch.Tensor:
        """Poisoned memory of this shape between two guard zones."""
        n = torch.Size(shape).numel()
        buffer = _full(n + 2 * GUARD, dtype, device)
        # NaN plus NaN is NaN to the bit: a zone of NaN alone would not show that a sum of two was written there
        buffer[GUARD + n :: 2] = buffer[:GUARD:2] = 77 if dtype != torch.bool else False
        self.buffers.append((name, buffer, buffer.clone()))
        return buffer[GUARD : GUARD + n].view(shape)

    @contextlib.contextmanager
    def allocating(self) -> Iterator[None]:
        """torch.empty and torch.empty_like give guarded memory."""

        def empty(*shape: Any, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
            size = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
            return self.fresh("an output", size, dtype or torch.get_default_dtype(), device or "cpu")

        def empty_like(x: torch.Tensor, dtype: Any = None, device: Any = None, **_: Any) -> torch.Tensor:
            return self.fresh("an output", x.shape, dtype or x.dtype, device or x.device)

        with patch.object(torch, "empty", empty), patch.object(torch, "empty_like", empty_like):
            yield

    def verify(self, where: str) -> None:
        """Raises WrongKernel if anything was written outside a tensor."""
        for name, buffer, before in self.buffers:
            for zone, side in ((slice(GUARD), "before"), (slice(len(buffer) - GUARD, None), "after")):
                if not _same(buffer[zone], before[zone]):
                    raise WrongKernel(f"{where}: wrote {side} {name}")


def _full(n: int, dtype: torch.dtype, device: Any) -> torch.Tensor:
    poison = torch.nan if dtype.is_floating_point else 1 if dtype == torch.bool else torch.iinfo(dtype).max
    return torch.full((n,), poison, dtype=dtype, device=device)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return bool(torch.equal(a.reshape(-1).view(torch.uint8), b.reshape(-1).view(torch.uint8)))


def _moved(inputs: Inputs, **to: Any) -> Inputs:
    """Floating tensors with another dtype or device; everything else as it is."""

    def move(v: Any) -> Any:
        if not isinstance(v, torch.Tensor):
            return v
        return v.to(**to) if v.is_floating_point() else v.to(**{k: a for k, a in to.items() if k != "dtype"})

    return {name: move(v) for name, v in inputs.items()}


def _outputs(result: Any) -> tuple[torch.Tensor, ...]:
    return result if isinstance(result, tuple) else (result,)


def _compare(where: str, got: torch.Tensor, exact: torch.Tensor, scale: Any, tolerance: float) -> None:
    if got.shape != exact.shape:
        raise WrongKernel(f"{where}: shape {tuple(got.shape)} where {tuple(exact.shape)} was expected")
    if not exact.is_floating_point():
        _compare_integers(where, got.cpu(), exact)
        return
    got = got.detach().cpu().double()
    wild = got.isfinite() != exact.isfinite()
    if wild.any():
        raise WrongKernel(f"{where}: {int(wild.sum())} of {wild.numel()} are {got[wild][0].item()} and should not be")
    finite = exact.isfinite()
    if not torch.equal(got[~finite].nan_to_num(7.0), exact[~finite].nan_to_num(7.0)):
        raise WrongKernel(f"{where}: an infinity or NaN is another than expected")
    error = ((got - exact).abs() / scale)[finite]
    if error.numel() and float(error.max()) > tolerance:
        raise WrongKernel(f"{where}: error {float(error.max()):.1e} of its scale, {tolerance:.0e} allowed")


def _compare_integers(where: str, got: torch.Tensor, exact: torch.Tensor) -> None:
    """Integers have no tolerance, and their dtype is part of the promise."""
    if got.dtype != exact.dtype:
        raise WrongKernel(f"{where}: gave {got.dtype} where {exact.dtype} was expected")
    if not torch.equal(got, exact):
        raise WrongKernel(f"{where}: {int((got != exact).sum())} of {exact.numel()} integers differ")


def check(kernel: Kernel, case: Case, dtype: torch.dtype, generator: torch.Generator, device: str | torch.device = "cpu") -> None:
    """Run a kernel on one case and hold it against float64: values, gradients, memory around its tensors, its inputs.

    Raises WrongKernel, saying what is wrong.
    """
    where = f"{kernel.name}, {case.name}, {str(dtype).removeprefix('torch.')}"
    rounded = case.make(generator, dtype)
    exactly = _moved(rounded, dtype=torch.float64)
    for name in case.gradients:
        exactly[name] = exactly[name].clone().requires_grad_()
    exact = _outputs((kernel.exact or kernel.reference)(**exactly))
    guards = Guards()
    inputs = _moved(rounded, device=device)
    inputs = {k: guards.place(k, v) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    for name in case.gradients:
        inputs[name].requires_grad_()
    with guards.allocating(), watching(device):
        got = _outputs(kernel.launcher(**inputs, **case.tuning, backend="triton"))
    guards.verify(where)
    for i, (a, b) in enumerate(zip(got, exact, strict=True)):
        if a.dtype != dtype and a.is_floating_point():
            raise WrongKernel(f"{where}: gave {a.dtype}")
        plain = b.detach()
        largest = plain[plain.isfinite()].abs().max() if plain.isfinite().any() else torch.tensor(1.0)
        scale = kernel.scale(_detached(exactly), plain) if kernel.scale else largest
        _compare(f"{where}, output {i}" if len(got) > 1 else where, a, plain, scale, kernel.tolerance[dtype])
    if case.gradients:
        _check_gradients(kernel, case, dtype, generator, (got, exact), (inputs, exactly), guards, where)
    for name, tensor in inputs.items():
        if isinstance(tensor, torch.Tensor) and not _same(tensor.detach().cpu().contiguous(), rounded[name].contiguous()):
            raise WrongKernel(f"{where}: changed its input {name}")


def watching(device: str | torch.device) -> contextlib.AbstractContextManager[Any]:
    """In the interpreter, no address outside a launch's tensors may be touched; a GPU cannot be watched from here."""
    return traced() if torch.device(device).type == "cpu" else contextlib.nullcontext()


def _detached(inputs: Inputs) -> Inputs:
    return {k: v.detach() if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}


def _check_gradients(
    kernel: Kernel,
    case: Case,
    dtype: torch.dtype,
    generator: torch.Generator,
    outputs: Any,
    inputs: Any,
    guards: Guards,
    where: str,
) -> None:
    got, exact = outputs
    upstream = [torch.randn(e.shape, generator=generator, dtype=torch.float64).to(dtype) for e in exact]
    ours = [inputs[0][name] for name in case.gradients]
    truth = [inputs[1][name] for name in case.gradients]
    with guards.allocating(), watching(ours[0].device):
        found = torch.autograd.grad(got, ours, [u.to(g.device) for u, g in zip(upstream, got, strict=True)])
    guards.verify(f"{where}, backward")
    wanted = torch.autograd.grad(exact, truth, [u.double() for u in upstream])
    tolerances = kernel.gradient_tolerance or {d: 4 * t for d, t in kernel.tolerance.items()}
    for name, a, b in zip(case.gradients, found, wanted, strict=True):
        scale = b.abs().max().clamp_min(torch.finfo(torch.float64).tiny)
        _compare(f"{where}, gradient in {name}", a, b, scale, tolerances[dtype])


def check_all(kernel: Kernel, generator: torch.Generator, device: str | torch.device = "cpu") -> None:
    """Every case in the tightest dtype that it is meant for: what a mutant has to get past."""
    done: set[str] = set()
    for case, dtype in kernel.checks():
        if case.name not in done:
            check(kernel, case, dtype, generator, device)
            done.add(case.name)


def compiled(target: Target, architecture: int) -> dict[str, Any]:
    """Compile for a GPU that need not be here: registers, bytes of stack (spills), of shared memory and of PTX.

    Raises ValueError where one block would take more shared memory than the architecture has.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from kernelbook.gpu.launch import jitted

    signature = target.signature | dict.fromkeys(target.constexprs, "constexpr")
    sixteens = [i for i, (name, kind) in enumerate(signature.items()) if kind.startswith("*") or name in target.aligned]
    aligned = {(i,): [["tt.divisibility", 16]] for i in sixteens}
    source = ASTSource(jitted(target.kernel, target.helpers), signature, target.constexprs, aligned)
    options = dict(num_warps=target.warps, num_stages=target.stages)
    made = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    if made.metadata.shared > SHARED[architecture]:
        raise ValueError(
            f"{made.metadata.shared} B of shared memory: expected at most {SHARED[architecture]} on sm_{architecture}"
        )
    return dict(
        kernel=target.kernel.__name__,
        constexprs={k: str(v) for k, v in target.constexprs.items()},
        architecture=architecture,
        **_resources(made.asm["cubin"]),
        shared=made.metadata.shared,
        ptx=len(made.asm["ptx"]),
    )


def _resources(cubin: bytes) -> dict[str, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        said = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True).stdout
    read = {key: re.search(rf"\b{key}:(\d+)", said) for key in ("REG", "STACK")}
    return dict(registers=int(read["REG"][1]), stack=int(read["STACK"][1]))  # type: ignore[index]


def print_compiled(kernels: list[Kernel], as_json: bool) -> int:
    """Compile every target of the kernels.  Returns how many failed."""
    failed, rows = 0, []
    for kernel, target, arch in ((k, t, a) for k in kernels for t in k.targets for a in ARCHITECTURES):
        try:
            row = dict(name=kernel.name) | compiled(target, arch)
        except Exception as wrong:
            failed += 1
            print(f"{kernel.name} sm_{arch}: {str(wrong).strip().splitlines()[-1]}", file=sys.stderr)
            continue
        rows.append(row)
        if not as_json:
            constants = ", ".join(f"{k}={v}" for k, v in row["constexprs"].items())
            used = f"{row['registers']} registers, {row['stack']} B stack, {row['shared']} B shared"
            print(f"{row['kernel']} ({constants}) sm_{arch}: {used}")
    if as_json:
        print(json.dumps(rows))
    return failed


def print_mutants(kernels: list[Kernel]) -> int:
    """Every mutant and its fate.  Returns how many lived that are not declared equivalent."""
    from kernelbook.gpu.mutants import fates

    lived = 0
    for kernel in kernels:
        check_all(kernel, torch.Generator())
        found = fates(kernel, lambda k=kernel: check_all(k, torch.Generator()))  # type: ignore[misc]
        for f in found:
            excuse = kernel.equivalent.get(f.mutant.name)
            lived += not f.killed and excuse is None
            state = "killed" if f.killed else "same  " if excuse else "LIVED "
            print(f"{state}  {f.mutant.name}  |  {excuse or f.how}", flush=True)
        killed = sum(f.killed for f in found)
        print(f"{kernel.name}: {killed} of {len(found)} killed, {len(kernel.equivalent)} equivalent\n", flush=True)
    return lived


def print_forward(kernels: list[Kernel], device: str) -> int:
    """Every case in every dtype.  Returns how many are wrong."""
    wrong = 0
    for kernel in kernels:
        for case, dtype in kernel.checks():
            try:
                check(kernel, case, dtype, torch.Generator(), device)
            except Exception as said:
                wrong += 1
                print(said if isinstance(said, WrongKernel) else f"{kernel.name}, {case.name}: {said!r}")
        print(f"{kernel.name}: {len(kernel.checks())} checks on {device}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """The command.  Returns how many things are wrong."""
    parser = argparse.ArgumentParser(prog="kernelbook.gpu.check", description=__doc__)
    parser.add_argument("what", choices=("forward", "mutants", "compile"))
    parser.add_argument("names", nargs="*", help="kernels (default: all)")
    parser.add_argument("--json", action="store_true", help="compile: print one JSON list")
    chosen = parser.parse_args(arguments)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if chosen.what == "compile":
        os.environ.pop("TRITON_INTERPRET", None)
        return print_compiled(registry.named(chosen.names), chosen.json)
    if device == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"
    kernels = registry.named(chosen.names)
    return print_mutants(kernels) if chosen.what == "mutants" else print_forward(kernels, device)


if __name__ == "__main__":
    sys.exit(bool(main()))
