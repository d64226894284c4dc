"""Training: one loop for every chapter, and the same seeds for every method."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from kernelbook.evidence import house, run

PRECISIONS = ("32-true", "bf16-mixed")
REDRAW_S = 0.1


@dataclass
class Fit:
    """What a training run gave.

    losses: one per step.  scores: (step, score) of every evaluation.  best_step: the step whose weights the model holds.
    seconds: wall time, over all parts of an interrupted run.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Steps taken."""
        return len(self.losses)

    @property
    def best_score(self) -> float | None:
        """The score at best_step; None without a validation."""
        return dict(self.scores).get(self.best_step)


def fit(
    model: nn.Module,
    data: tuple[Tensor, ...],
    loss: Callable[..., Tensor],
    steps: int,
    *,
    batch: int = 128,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    lr: float = 1e-3,
    generator: torch.Generator,
    validation: Callable[[nn.Module], float] | None = None,
    every: int = 100,
    patience: int | None = None,
    checkpoint: str | Path | None = None,
    progress: bool | None = None,
    precision: str | None = None,
) -> Fit:
    """Train model in place for `steps` minibatches, every example once an epoch in an order that the generator draws.

    data: tensors (n, ...), equal n; a step takes `batch` rows of each (an epoch's last step what is left).
    loss: loss(model, *rows) -> scalar, the mean over the rows.
    optimizer: parameters -> optimizer; None is Adam at lr.
    generator: the only randomness; dropout follows it too, and a loss that draws must draw from it.
    validation: model in eval mode -> score, higher is better, each `every` steps and at the last; the model ends with the
    weights of the best score, and stops after `patience` evaluations without a better one.
    checkpoint: a safetensors file, written whole each `every` steps.  The same call finds it and goes on, on a CPU to the
    same bits; a call of a finished run returns at once.  What loss and validation compute is not compared.
    progress: None shows a line in a terminal and a bar in a notebook; a page and a survey never show one.
    precision: "32-true" (None) leaves dtypes alone, "bf16-mixed" computes the loss under autocast.

    At `full` scale, on a GPU and under torchrun the loop runs on Lightning Fabric: the model moves to the device, each rank
    takes its share of every batch, gradients are averaged and rank 0 writes the checkpoint (all ranks must see its folder).
    Raises ValueError for bad arguments and for a checkpoint of another run; RuntimeError where a loss or a
    score is not finite, or a checkpoint cannot be written.
    """
    _check_data(data)
    _check_choices(optimizer, lr, generator)
    plan = _Plan(steps, batch, every, patience, precision or PRECISIONS[0], validation is not None)
    place = _Spread(plan.precision) if _spreads() else _Alone(plan.precision)
    path = None if checkpoint is None else Path(checkpoint)
    training = _Training(model, data, loss, plan, place, generator, validation, path)
    training.optimizer = optimizer(training.parameters) if optimizer else torch.optim.Adam(training.parameters, lr=lr)
    with _mode(model, True), _display(progress if place.rank == 0 else False, steps) as show, training.streams():
        training.run(show)
    return training.record


def accuracy(model: nn.Module, X: Tensor, y: Tensor, batch: int = 1024) -> float:
    """Fraction of the rows of X (n, ...) whose largest output (n, classes) is at y (n,), in eval mode, without gradients.

    Every submodule's mode is as before afterwards.  Raises ValueError on other shapes, or where n is 0.
    """
    if y.shape != X.shape[:1] or not len(y):
        raise ValueError(f"X has shape {tuple(X.shape)} and y {tuple(y.shape)}: expected (n, ...) and (n,), n from 1 upwards")
    device, right = next((p.device for p in model.parameters()), X.device), 0
    with _mode(model, False), torch.no_grad():
        for rows, labels in zip(X.split(batch), y.split(batch), strict=True):
            outputs = model(rows.to(device))
            if outputs.ndim != 2 or len(outputs) != len(rows):
                raise ValueError(f"model gives {tuple(outputs.shape)} for {len(rows)} rows: expected (n, classes)")
            right += int((outputs.argmax(1) == labels.to(outputs.device)).sum())
    return right / len(y)


def paired_runs(methods: Mapping[str, Callable[[int], Any]], seeds: Iterable[int]) -> dict[str, list[Any]]:
    """Every method on the same seeds, in turn: results[name][i] is what methods[name](seeds[i]) gave.

    methods: name -> (seed -> number, or a dict of named numbers).
    Raises ValueError for no method, no seed or a seed named twice; RuntimeError, naming method and seed, where a method
    fails or gives what is not a finite number.
    """
    listed = list(seeds)
    if not methods or not listed or len(set(listed)) < len(listed):
        raise ValueError(f"methods={list(methods)!r}, seeds={listed!r}: expected at least one method, and distinct seeds")
    results: dict[str, list[Any]] = {name: [] for name in methods}
    for seed in listed:
        for name, method in methods.items():
            try:
                results[name].append(_numbers(method(seed)))
            except Exception as error:
                raise RuntimeError(f"method {name!r} with seed {seed}: {type(error).__name__}: {error}") from error
    return results


# ---------------------------------------------------------------- arguments


@dataclass(frozen=True)
class _Plan:
    """The arguments that say how long and how often."""

    steps: int
    batch: int
    every: int
    patience: int | None
    precision: str
    validation: bool

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "every", "patience"):
            value = getattr(self, name)
            if not (name == "patience" and value is None) and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name}={value!r}: expected a whole number from 1 upwards")
        if self.patience is not None and not self.validation:
            raise ValueError(f"patience={self.patience!r}: it counts evaluations, and validation is None")
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision={self.precision!r}: expected None, {' or '.join(map(repr, PRECISIONS))}")


def _check_data(data: Any) -> None:
    if not isinstance(data, (tuple, list)) or not data or not all(isinstance(t, Tensor) and t.ndim for t in data):
        raise ValueError(f"data={type(data).__name__}: expected a tuple of tensors (n, ...), as in (inputs, targets)")
    if len({len(t) for t in data}) > 1 or not len(data[0]):
        raise ValueError(f"data has {[len(t) for t in data]} rows: expected as many in each tensor, at least one")


def _check_choices(optimizer: Any, lr: Any, generator: Any) -> None:
    if not isinstance(generator, torch.Generator):
        raise ValueError(f"generator={generator!r}: expected a torch.Generator, as run.generator(name) makes it")
    if optimizer is not None and not callable(optimizer):
        raise ValueError(f"optimizer={optimizer!r}: expected a function of the parameters, such as lambda p: SGD(p, lr=0.1)")
    if optimizer is None and not (isinstance(lr, (int, float)) and 0 < lr < math.inf):
        raise ValueError(f"lr={lr!r}: expected a positive number")


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _numbers(v) for k, v in value.items()}
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"it gave {number}, expected finite numbers")
    return number


# ---------------------------------------------------------------- the loop


@contextmanager
def _mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Train or eval mode for a while; each submodule gets its own back, so that a frozen one stays so."""
    before = {m: m.training for m in model.modules()}
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def _copies(model: nn.Module) -> dict[str, Tensor]:
    return {k: _copy(v) for k, v in model.state_dict().items()}


def _copy(t: Tensor) -> Tensor:
    return t.detach().clone(memory_format=torch.contiguous_format).cpu()


class _Training:
    """A run under way: the model and everything that decides what it becomes."""

    optimizer: torch.optim.Optimizer

    def __init__(
        self,
        model: nn.Module,
        data: tuple[Tensor, ...],
        loss: Callable[..., Tensor],
        plan: _Plan,
        place: _Alone,
        generator: torch.Generator,
        validation: Callable[[nn.Module], float] | None,
        path: Path | None,
    ):
        self.model, self.data, self.loss, self.plan, self.place = model, data, loss, plan, place
        self.generator, self.validation, self.path = generator, validation, path
        self.record, self.order = Fit(), torch.empty(0, dtype=torch.int64)
        self.best: dict[str, Tensor] = {}
        place.take(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"model={type(model).__name__} has no parameter that requires a gradient: nothing to train")

    def run(self, show: Callable[[Fit], None]) -> None:
        self.identity = _identity(self) if self.path else {}
        self.seed_streams()
        if self.path and self.path.exists():
            _resume(self, self.path)
        began = time.monotonic() - self.record.seconds
        while self.record.steps < self.plan.steps and not self.out_of_patience():
            self.step()
            self.record.seconds = time.monotonic() - began
            if self.record.steps % self.plan.every == 0 or self.record.steps == self.plan.steps:
                self.pause()
            show(self.record)
        if self.best:
            self.model.load_state_dict(self.best)
        # outside, every rank must draw what a single process would
        self.generator.set_state(self.place.first(self.generator.get_state()))

    def step(self) -> None:
        rows, share = self.rows()
        self.optimizer.zero_grad(set_to_none=True)
        with self.place.autocast():
            value = self.loss(self.model, *(self.place.move(t[rows.to(t.device)]) for t in self.data))
        if not isinstance(value, Tensor) or value.ndim:
            told = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
            raise ValueError(f"loss gives {told}: expected a scalar tensor, the mean over the rows")
        (value * share).backward()
        total = self.place.total(value * share, self.parameters)
        if not math.isfinite(total):
            raise RuntimeError(
                f"loss is {total} at step {self.record.steps + 1}: the weights are those before this step; lower lr"
            )
        self.optimizer.step()
        self.record.losses.append(total)
        self.record.best_step = self.record.best_step if self.validation else self.record.steps

    def rows(self) -> tuple[Tensor, float]:
        """Which examples this rank takes next, and their part of the batch; a rank left without takes one at weight zero."""
        n, size = len(self.data[0]), self.plan.batch
        at = self.record.steps % -(-n // size) * size
        if at == 0:
            drawn = torch.randperm(n, generator=self.generator, device=self.generator.device)
            self.order = self.place.first(drawn.cpu())
        chosen = self.order[at : at + size]
        mine = chosen[self.place.rank :: self.place.world]
        return (mine, len(mine) / len(chosen)) if len(mine) else (chosen[:1], 0.0)

    def pause(self) -> None:
        self.place.agree(self.model.buffers())
        if self.validation:
            self.evaluate(self.validation)
        if self.path:
            _save(self, self.path)

    def evaluate(self, validation: Callable[[nn.Module], float]) -> None:
        step, best = self.record.steps, self.record.best_score
        with _mode(self.model, False), torch.no_grad():
            score = self.place.first(float(validation(self.model)))
        if not math.isfinite(score):
            raise RuntimeError(f"validation gave {score} at step {step}: expected a finite number")
        self.record.scores.append((step, score))
        if best is None or score > best:
            self.record.best_step, self.best = step, _copies(self.model)

    def out_of_patience(self) -> bool:
        waited = sum(step > self.record.best_step for step, _ in self.record.scores)
        return self.plan.patience is not None and waited >= self.plan.patience

    def layer_streams(self) -> list[torch.Generator]:
        """Torch's own streams, from which layers such as dropout draw."""
        gpu = self.parameters[0].device
        return [torch.default_generator] + ([torch.cuda.default_generators[gpu.index or 0]] if gpu.type == "cuda" else [])

    @contextmanager
    def streams(self) -> Iterator[None]:
        """Lend torch's own streams to this run, and put them back."""
        own = self.layer_streams()
        before = [s.get_state() for s in own]
        try:
            yield
        finally:
            for stream, state in zip(own, before, strict=True):
                stream.set_state(state)

    def seed_streams(self) -> None:
        """Layers draw after the generator, each rank something else."""
        drawn = torch.randint(2**62, (1,), generator=self.generator, device=self.generator.device)
        first, rank = self.place.first(int(drawn)), self.place.rank
        for stream in self.layer_streams():
            stream.manual_seed(first + rank)
        if rank:
            self.generator.manual_seed(first - rank)


# ---------------------------------------------------------------- where it runs


def _spreads() -> bool:
    return run.scale == "full" or run.device.type == "cuda" or torch.distributed.is_torchelastic_launched()


class _Alone:
    """One process, plain torch."""

    rank, world = 0, 1

    def __init__(self, precision: str):
        self.precision = precision

    def take(self, model: nn.Module) -> None:
        """Move the model to where it is trained; every rank begins with rank 0's weights."""

    def move(self, rows: Tensor) -> Tensor:
        return rows

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", torch.bfloat16) if self.precision == "bf16-mixed" else nullcontext()

    def first(self, value: Any) -> Any:
        """Rank 0's value."""
        return value

    def every(self, value: Tensor) -> Tensor:
        """All ranks' values, stacked."""
        return value[None]

    def agree(self, tensors: Iterable[Tensor]) -> None:
        """Give the tensors rank 0's values, in place."""

    def total(self, value: Tensor, parameters: list[nn.Parameter]) -> float:
        """Add up the ranks' shares of the gradients, in place, and of the loss."""
        return float(value.detach())


class _Spread(_Alone):
    """Lightning Fabric: one process on a GPU or at full scale, or all that torchrun started.

    Gradients are summed here rather than in DDP's hooks: those see a call of the wrapped model only, and a loss may call
    a part of it, use torch.func on its parameters, or leave some without a gradient.
    """

    def __init__(self, precision: str):
        from lightning_fabric import Fabric

        # its notes go to stderr, and a page that writes there is not built
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        launched = torch.distributed.is_torchelastic_launched()
        self.world, here = (int(os.environ[k]) if launched else 1 for k in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
        strategy = "ddp" if self.world > 1 else "auto"
        nodes = self.world // here
        kind: Any = run.device.type
        numbers: Any = precision
        self.fabric = Fabric(accelerator=kind, devices=here, num_nodes=nodes, strategy=strategy, precision=numbers)
        self.fabric.launch()
        self.rank = self.fabric.global_rank

    def take(self, model: nn.Module) -> None:
        self.fabric.to_device(model)
        self.agree(model.state_dict().values())

    def move(self, rows: Tensor) -> Tensor:
        return self.fabric.to_device(rows)

    def autocast(self) -> AbstractContextManager[Any]:
        return self.fabric.autocast()

    def first(self, value: Any) -> Any:
        return self.fabric.broadcast(value)

    def every(self, value: Tensor) -> Tensor:
        return torch.stack([self.fabric.broadcast(value, src=rank) for rank in range(self.world)])

    def agree(self, tensors: Iterable[Tensor]) -> None:
        for t in tensors if self.world > 1 else ():
            t.detach().copy_(self.first(t.detach().cpu()))

    def total(self, value: Tensor, parameters: list[nn.Parameter]) -> float:
        if self.world == 1:
            return super().total(value, parameters)
        had = torch.tensor([p.grad is not None for p in parameters], device=value.device)
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        flat = torch.cat([value.detach().reshape(1), had.to(value.dtype), *(g.flatten() for g in parts)])
        summed = self.fabric.all_reduce(flat, reduce_op="sum")
        assert isinstance(summed, Tensor)
        loss, had, *grads = summed.split([1, len(parts), *(g.numel() for g in parts)])
        for p, present, part, grad in zip(parameters, had.tolist(), parts, grads, strict=True):
            p.grad = part.copy_(grad.view_as(part)) if present else None
        return float(loss)


# ---------------------------------------------------------------- checkpoints


def _digest(tensors: Iterable[Tensor]) -> str:
    h = hashlib.sha256()
    for t in tensors:
        h.update(t.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return h.hexdigest()[:12]


def _groups(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The numbers of an optimizer's groups: learning rate, decay and the like."""
    kept = (int, float, bool)
    return [{k: v for k, v in g.items() if isinstance(v, kept)} for g in optimizer.state_dict()["param_groups"]]


def _identity(training: _Training) -> dict[str, Any]:
    """What a checkpoint must have in common with the call that goes on from it."""
    layout = [(k, tuple(v.shape), str(v.dtype)) for k, v in training.model.state_dict().items()]
    code = hashlib.sha256(repr(layout).encode()).hexdigest()[:12]
    optimizer, place = training.optimizer, training.place
    groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.state_dict()["param_groups"]]
    return dict(
        model=f"{type(training.model).__qualname__} with layers {code}",
        data=f"{[tuple(t.shape) for t in training.data]} with content {_digest(training.data)}",
        generator=f"state {_digest([place.first(training.generator.get_state())])}",
        optimizer=f"{type(optimizer).__qualname__} {groups}",
        place=f"{place.world} x {training.parameters[0].device.type}",
        **asdict(training.plan),
    )


def _packed(training: _Training) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors and the rest of it.  Every rank must take part."""
    state, record = training.optimizer.state_dict()["state"], training.record
    entries = {f"{i}/{k}": v for i, values in state.items() for k, v in values.items()}
    streams = [training.generator, *training.layer_streams()]
    tensors = {"order": training.order.clone(), "losses": torch.tensor(record.losses, dtype=torch.float64)}
    tensors |= {f"model/{k}": v for k, v in _copies(training.model).items()}
    tensors |= {f"best/{k}": v.clone() for k, v in training.best.items()}
    tensors |= {f"optimizer/{k}": _copy(v) for k, v in entries.items() if isinstance(v, Tensor)}
    tensors |= {f"stream/{i}": training.place.every(s.get_state()) for i, s in enumerate(streams)}
    about = dict(
        identity=training.identity,
        groups=_groups(training.optimizer),
        entries={k: v for k, v in entries.items() if not isinstance(v, Tensor)},
        scores=record.scores,
        best_step=record.best_step,
        seconds=record.seconds,
    )
    return tensors, about


def _save(training: _Training, path: Path) -> None:
    tensors, about = _packed(training)
    if training.place.rank:
        return
    try:
        text = json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        kind = type(training.optimizer).__name__
        raise ValueError(f"checkpoint: {kind} keeps what is neither a tensor nor a number ({error}); train without one") from None
    try:
        house.write_whole(path, save(tensors, {"kernelbook.fit": text}))
    except OSError as error:
        said = f"could not be written at step {training.record.steps} ({error.strerror})"
        raise RuntimeError(f"checkpoint={str(path)!r} {said}: give a path in a folder that can be written to") from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["kernelbook.fit"])
            return {k: file.get_tensor(k).clone() for k in file.keys()}, about  # noqa: SIM118 (no mapping)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"checkpoint={str(path)!r} is damaged or none of fit's: delete it, or give another path") from error


def _check_same(path: Path, stored: dict[str, Any], now: dict[str, Any]) -> None:
    for name in now:
        if stored.get(name) != now[name]:
            told = f"it was made with {name}: {stored.get(name)}; this call has {now[name]}"
            raise ValueError(f"checkpoint={str(path)!r} is another run's: {told}. Delete it, or give another path")


def _under(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _resume(training: _Training, path: Path) -> None:
    tensors, about = _read(path)
    _check_same(path, about["identity"], training.identity)
    training.order, training.best = tensors["order"], _under(tensors, "best/")
    scores = [(int(step), float(score)) for step, score in about["scores"]]
    training.record = Fit(tensors["losses"].tolist(), scores, about["best_step"], about["seconds"])
    training.model.load_state_dict(_under(tensors, "model/"))
    _load_optimizer(training.optimizer, _under(tensors, "optimizer/") | about["entries"], about["groups"])
    for i, stream in enumerate([training.generator, *training.layer_streams()]):
        # a copy: set_state reads a view from beyond its end, and crashes
        stream.set_state(tensors[f"stream/{i}"][training.place.rank].clone())


def _load_optimizer(optimizer: torch.optim.Optimizer, entries: dict[str, Any], groups: list[dict[str, Any]]) -> None:
    whole = optimizer.state_dict()
    for name, value in entries.items():
        index, key = name.split("/", 1)
        whole["state"].setdefault(int(index), {})[key] = value
    for group, stored in zip(whole["param_groups"], groups, strict=True):
        group |= stored
    optimizer.load_state_dict(whole)


# ---------------------------------------------------------------- what is shown


def _in_notebook() -> bool:
    python = sys.modules.get("IPython")
    return getattr(python and python.get_ipython(), "kernel", None) is not None


@contextmanager
def _display(progress: bool | None, steps: int) -> Iterator[Callable[[Fit], None]]:
    """A function that shows how far a run is: a bar, a line, or nothing."""
    printed = any(os.environ.get(k) == "1" for k in ("KERNELBOOK_STATIC", "KERNELBOOK_SURVEY"))
    wanted = progress if progress is not None else _in_notebook() or sys.stdout.isatty()
    if printed or not wanted:
        yield lambda record: None
        return
    draw, close = _bar(steps) if _in_notebook() else _line()
    last = 0.0

    def show(record: Fit) -> None:
        nonlocal last
        if time.monotonic() - last > REDRAW_S or record.steps == steps:
            last = time.monotonic()
            draw(record.steps, _told(record, steps))

    try:
        yield show
    finally:
        close()


def _told(record: Fit, steps: int) -> str:
    score = f"  score {record.scores[-1][1]:.4g}" if record.scores else ""
    return f"step {record.steps}/{steps}  loss {record.losses[-1]:.4g}{score}  {record.seconds:.0f} s"


def _line() -> tuple[Callable[[int, str], None], Callable[[], None]]:
    width = 0

    def draw(step: int, text: str) -> None:
        nonlocal width
        width = max(width, len(text))
        print(f"\r{text:<{width}}", end="", flush=True)

    return draw, lambda: print(flush=True)


def _bar(steps: int) -> tuple[Callable[[int, str], None], Callable[[], None]]:
    import ipywidgets
    from IPython.display import display

    bar, label = ipywidgets.IntProgress(max=steps), ipywidgets.Label()
    display(ipywidgets.HBox([bar, label]))  # type: ignore[no-untyped-call]

    def draw(step: int, text: str) -> None:
        bar.value, label.value = step, text

    return draw, lambda: None
