"""Mutants: a kernel with one mistake in it, the kind that people make. A test that lets one live tests too little."""

from __future__ import annotations

import ast
import contextlib
import copy
import faulthandler
import linecache
import os
import select
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from kernelbook.gpu import launch
from kernelbook.gpu.registry import Kernel, function_tree

SECONDS = 240  # after which a mutant counts as one that never ends


@dataclass(frozen=True)
class Mutant:
    """name: the mistake and the line it was made in, unique within its kernel.  replaces: the function it stands in for."""

    name: str
    mistake: str
    source: str
    replaces: Callable[..., Any]


@dataclass(frozen=True)
class Fate:
    """What became of a mutant: how it died, or that it lived."""

    mutant: Mutant
    killed: bool
    how: str


def _is_pointer(node: ast.expr) -> bool:
    while isinstance(node, ast.BinOp):
        node = node.left
    return isinstance(node, ast.Name) and node.id.endswith(("_ptr", "_ptrs"))


def _called(node: ast.AST) -> str:
    """The name of the tl function (or range) that a call calls."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _terms(node: ast.expr) -> list[ast.expr]:
    """a + b + c as [a, b, c]."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [*_terms(node.left), *_terms(node.right)]
    return [node]


def _plainness(node: ast.expr) -> int:
    return 0 if isinstance(node, ast.Constant) else 1 if isinstance(node, ast.Name) else 2


def _without(call: ast.Call, *names: str) -> ast.Call:
    return ast.Call(call.func, call.args, [k for k in call.keywords if k.arg not in names])


def _plus_one(node: ast.expr) -> ast.expr:
    return ast.BinOp(node, ast.Add(), ast.Constant(1))


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def _mask(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if _called(node) in ("load", "store") and any(k.arg == "mask" for k in node.keywords):  # type: ignore[attr-defined]
        yield "mask dropped", _without(node, "mask", "other")  # type: ignore[arg-type]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitAnd):
        for kept, lost in ((node.left, node.right), (node.right, node.left)):
            if not isinstance(lost, ast.Constant) and not isinstance(kept, ast.Constant):
                yield f"half of a mask dropped ({ast.unparse(lost)})", kept


def _off_by_one(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if _called(node) == "arange":
        yield "offsets off by one", _plus_one(node)  # type: ignore[arg-type]
    if _called(node) in ("range", "static_range"):
        args = node.args  # type: ignore[attr-defined]
        step = args[2] if len(args) == 3 else ast.Constant(1)
        shorter = [*args[:-1], ast.BinOp(args[0], ast.Sub(), step)] if len(args) == 1 else list(args)
        if len(args) > 1:
            shorter[1] = ast.BinOp(args[1], ast.Sub(), step)
        yield "last turn of the loop missed", ast.Call(node.func, shorter, node.keywords)  # type: ignore[attr-defined]
    swaps: dict[type, ast.cmpop] = {ast.Lt: ast.LtE(), ast.LtE: ast.Lt(), ast.Gt: ast.GtE(), ast.GtE: ast.Gt()}
    if isinstance(node, ast.Compare) and type(node.ops[0]) in swaps:
        yield "comparison off by one", ast.Compare(node.left, [swaps[type(node.ops[0])]], node.comparators)


def _identity(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if _called(node) == "load":
        for k in node.keywords:  # type: ignore[attr-defined]
            if k.arg == "other":
                wrong = ast.Constant(1.0 if _is_zero(k.value) else 0.0)
                call = _without(node, "other")  # type: ignore[arg-type]
                yield "wrong value beyond the end", ast.Call(call.func, call.args, [*call.keywords, ast.keyword("other", wrong)])
    if _called(node) == "zeros":
        yield "accumulator starts at 1", _plus_one(node)  # type: ignore[arg-type]
    if _called(node) == "full":
        shape, value, *rest = node.args  # type: ignore[attr-defined]
        wrong = ast.Constant(1.0 if _is_zero(value) else 0.0)
        yield "accumulator starts wrong", ast.Call(node.func, [shape, wrong, *rest], node.keywords)  # type: ignore[attr-defined]
    if _called(node) == "where" and len(node.args) == 3:  # type: ignore[attr-defined]
        _, value, other = node.args  # type: ignore[attr-defined]
        if isinstance(other, (ast.Constant, ast.UnaryOp)) or _called(other) == "float":
            yield "lanes beyond the end let in", value


def _stride(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """row * n + column becomes row * column + n; row * a + column * b becomes row * b + column * a."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add)):
        return
    terms = _terms(node)
    products = [i for i, t in enumerate(terms) if isinstance(t, ast.BinOp) and isinstance(t.op, ast.Mult)]
    others = [i for i, t in enumerate(terms) if i not in products and not _is_pointer(t)]
    if not products or (len(products) == 1 and not others):
        return
    terms = copy.deepcopy(terms)
    first: Any = terms[products[0]]
    if len(products) > 1:
        second: Any = terms[products[1]]
        first.right, second.right = second.right, first.right
    else:
        first.right, terms[others[0]] = terms[others[0]], first.right
    total = terms[0]
    for term in terms[1:]:
        total = ast.BinOp(total, ast.Add(), term)
    yield "stride swapped", total


def _scale(node: ast.AST) -> Iterator[tuple[str, Any]]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        drop_left = isinstance(node.op, ast.Mult) and _plainness(node.left) < _plainness(node.right)
        kept, lost = (node.right, node.left) if drop_left else (node.left, node.right)
        yield f"factor dropped ({ast.unparse(lost)})", kept
    if isinstance(node, ast.AugAssign) and isinstance(node.op, (ast.Mult, ast.Div)):
        yield "rescaling dropped", ast.Pass()


def _sign(node: ast.AST) -> Iterator[tuple[str, Any]]:
    flipped: dict[type, ast.operator] = {ast.Add: ast.Sub(), ast.Sub: ast.Add()}
    if isinstance(node, ast.BinOp) and type(node.op) in flipped and not _is_pointer(node):
        yield "sign wrong", ast.BinOp(node.left, flipped[type(node.op)], node.right)
    if isinstance(node, ast.AugAssign) and type(node.op) in flipped:
        yield "sign wrong", ast.AugAssign(node.target, flipped[type(node.op)], node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, (ast.Constant, ast.Call)):
        yield "minus dropped", node.operand


def _reduction(node: ast.AST) -> Iterator[tuple[str, Any]]:
    other = {"max": "min", "min": "max", "maximum": "minimum", "minimum": "maximum"}.get(_called(node))
    if other and isinstance(node.func, ast.Attribute):  # type: ignore[attr-defined]
        func = ast.Attribute(node.func.value, other, ast.Load())  # type: ignore[attr-defined]
        yield f"{_called(node)} taken for {other}", ast.Call(func, node.args, node.keywords)  # type: ignore[attr-defined]


MISTAKES = (_mask, _off_by_one, _identity, _stride, _scale, _sign, _reduction)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, by: ast.AST):
        self.target, self.by = target, by

    def visit(self, node: ast.AST) -> Any:
        return self.by if node is self.target else self.generic_visit(node)


def _nodes(tree: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.stmt]]:
    """Every node of the body, with the statement it stands in."""
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.stmt) or statement is tree:
            continue
        yield statement, statement
        queue = [c for c in ast.iter_child_nodes(statement) if not isinstance(c, ast.stmt)]
        while queue:
            node = queue.pop(0)
            yield node, statement
            queue += [c for c in ast.iter_child_nodes(node) if not isinstance(c, ast.stmt)]


def _chained(node: ast.AST, statement: ast.stmt) -> bool:
    """Whether a sum is part of a longer one, which is mutated as a whole."""
    for parent in ast.walk(statement):
        if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add) and node in (parent.left, parent.right):
            return True
    return False


def mutants_of(function: Callable[..., Any]) -> list[Mutant]:
    """Every mutant of one plain Triton function: one mistake at one place each."""
    tree = function_tree(function)
    found: list[Mutant] = []
    counts: dict[str, int] = {}
    places = list(_nodes(tree))
    for index, (node, statement) in enumerate(places):
        for mistake in MISTAKES:
            if mistake is _stride and _chained(node, statement):
                continue
            for what, _ in mistake(node):
                line = ast.unparse(statement).splitlines()[0]
                name = f"{function.__name__}: {what}: {line}"
                counts[name] = counts.get(name, 0) + 1
                name += f" ({counts[name]})" if counts[name] > 1 else ""
                found.append(Mutant(name, what, _mutated(tree, index, mistake, what), function))
    return found


def _mutated(tree: ast.FunctionDef, index: int, mistake: Callable[..., Any], what: str) -> str:
    fresh = copy.deepcopy(tree)
    node = list(_nodes(fresh))[index][0]
    by = next(new for said, new in mistake(node) if said == what)
    return ast.unparse(ast.fix_missing_locations(_Replace(node, by).visit(fresh)))


@contextlib.contextmanager
def standing_in(mutant: Mutant) -> Iterator[None]:
    """Within this block every launch of the kernel runs the mutant."""
    real = mutant.replaces
    file = f"<mutant {abs(hash(mutant.source))}>"
    lines = [line + "\n" for line in mutant.source.splitlines()]
    linecache.cache[file] = (len(mutant.source), None, lines, file)  # Triton reads a function's source from its file
    space = {**real.__globals__}
    exec(compile("from __future__ import annotations\n" + mutant.source, file, "exec"), space)
    function = space[real.__name__]
    linecache.cache[file] = (len(mutant.source), None, ["from __future__ import annotations\n", *lines], file)
    before = launch._ready.pop(real, None)
    launch._ready[real] = launch._made_ready(function)
    try:
        yield
    finally:
        launch._ready.pop(real)
        if before is not None:
            launch._ready[real] = before
        linecache.cache.pop(file, None)


def fates(kernel: Kernel, check: Callable[[], None]) -> list[Fate]:
    """Run check() against every mutant of a kernel, each in a process of its own, which it may crash or hang.

    check: raises an AssertionError where the kernel is wrong.
    Raises ValueError where the kernel itself does not live through it: then no death of a mutant would mean anything.
    """
    first = kernel.kernels[0]
    itself = fate(Mutant("itself", "none", ast.unparse(function_tree(first)), first), check)
    if itself.killed:
        raise ValueError(f"check kills kernel {kernel.name!r} itself: {itself.how}")
    waiting = [m for f in kernel.kernels for m in mutants_of(f)]
    found: dict[str, Fate] = {}
    running: list[_Trial] = []
    for mutant in waiting:
        running.append(_Trial(mutant, check))
        while len(running) == (os.cpu_count() or 1):
            found |= _ended(running)
    while running:
        found |= _ended(running)
    return [found[m.name] for m in waiting]


def fate(mutant: Mutant, check: Callable[[], None]) -> Fate:
    """What becomes of one mutant under check()."""
    return _Trial(mutant, check).end()


def _ended(running: list[_Trial]) -> dict[str, Fate]:
    """Wait until at least one trial is over; take those that are off the list."""
    patience = max(0.0, min(t.deadline for t in running) - time.monotonic())
    ready = select.select([t.reader for t in running], [], [], patience)[0]
    over = [t for t in running if t.reader in ready or t.deadline <= time.monotonic()]
    running[:] = [t for t in running if t not in over]
    return {t.mutant.name: t.end() for t in over}


class _Trial:
    """A process in which a mutant stands in for its kernel and check() runs."""

    def __init__(self, mutant: Mutant, check: Callable[[], None]):
        self.mutant, self.deadline = mutant, time.monotonic() + SECONDS
        self.reader, writer = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(self.reader)
            self._live(check, writer)
        os.close(writer)

    def _live(self, check: Callable[[], None], writer: int) -> None:
        faulthandler.disable()
        warnings.simplefilter("ignore")  # a mutant may well divide by zero
        torch.set_num_threads(1)  # the parent's other threads were not forked, and would be waited for
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            with standing_in(self.mutant):
                check()
            said = ""
        except BaseException as wrong:
            said = f"{type(wrong).__name__}: {wrong}".splitlines()[0][:200]
        os.write(writer, said.encode())
        os._exit(0 if not said else 1)

    def end(self) -> Fate:
        """What it came to; one that is not over by its deadline is ended."""
        in_time = bool(select.select([self.reader], [], [], max(0.0, self.deadline - time.monotonic()))[0])
        said = os.read(self.reader, 4096).decode() if in_time else ""
        os.close(self.reader)
        if not in_time:
            os.kill(self.child, signal.SIGKILL)
        status = os.waitpid(self.child, 0)[1]
        if not in_time:
            return Fate(self.mutant, True, f"no end within {SECONDS} s")
        if os.WIFSIGNALED(status):
            return Fate(self.mutant, True, f"crashed ({signal.Signals(os.WTERMSIG(status)).name})")
        return Fate(self.mutant, bool(said), said or "lived")
