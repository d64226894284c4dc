import os
import subprocess
import sys
import textwrap

import pytest
import torch
from kernelbook.evidence import run, training
from kernelbook.evidence.training import accuracy, fit, paired_runs
from safetensors.torch import load_file
from torch import nn

# The same few lines here and in processes of their own.
SETTING = """
import torch
from torch import nn
from kernelbook.evidence import run
from kernelbook.evidence.training import accuracy, fit

def filled(model):
    generator = run.generator("weights")
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) / 3)
    return model

def network(dropout=0.3):
    layers = nn.Linear(6, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(dropout), nn.Linear(16, 3)
    return filled(nn.Sequential(*layers))

X = torch.randn(70, 6, generator=run.generator("inputs"))
y = X[:, :3].argmax(1)

def loss(model, x, y):
    return nn.functional.cross_entropy(model(x), y)

def train(model, steps=30, **more):
    settings = dict(batch=16, lr=1e-2, generator=run.generator("order"), every=10) | more
    return fit(model, (X, y), loss, steps, **settings)
"""
HERE: dict = {}
exec(SETTING, HERE)
network, X, y, loss, train = (HERE[name] for name in ("network", "X", "y", "loss", "train"))


def weights(model):
    return torch.cat([v.flatten().double() for v in model.state_dict().values()])


def score(model):
    return accuracy(model, X, y)


def in_a_process(code, *command, **environment):
    env = {k: v for k, v in os.environ.items() if not k.startswith("KERNELBOOK_")}
    env |= dict(OMP_NUM_THREADS="1", KERNELBOOK_DEVICE="cpu", PYTHONWARNINGS="default") | environment
    whole = [sys.executable, *(command or ["-c", SETTING + textwrap.dedent(code)])]
    return subprocess.run(whole, capture_output=True, text=True, env=env, timeout=240)


# ---------------------------------------------------------------- the loop


def test_it_learns_and_keeps_the_record():
    model = network(dropout=0)
    record = train(model, 200, validation=score)
    assert record.steps == len(record.losses) == 200 and record.seconds > 0
    assert [s for s, _ in record.scores] == list(range(10, 201, 10))
    assert score(model) == record.best_score == max(s for _, s in record.scores) > 0.8
    assert sum(record.losses[-20:]) < 0.8 * sum(record.losses[:20])


def test_it_takes_the_steps_of_a_plain_loop():
    ours, plain = network(dropout=0), network(dropout=0)
    record = train(ours, 12, optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))
    generator, losses = run.generator("order"), []
    torch.randint(2**62, (1,), generator=generator)  # the seed of the layers' streams
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9)
    while len(losses) < 12:
        for rows in torch.randperm(70, generator=generator).split(16)[: 12 - len(losses)]:
            optimizer.zero_grad()
            value = loss(plain, X[rows], y[rows])
            value.backward()
            optimizer.step()
            losses.append(value.item())
    assert record.losses == losses and torch.equal(weights(ours), weights(plain))


def test_every_example_comes_once_an_epoch_and_in_another_order_the_next():
    seen = []

    def watched(model, index):
        seen.append(index.tolist())
        return model(torch.ones(1, 1)).sum()

    fit(nn.Linear(1, 1), (torch.arange(10),), watched, 6, batch=4, generator=run.generator("order"))
    assert [len(s) for s in seen] == [4, 4, 2] * 2
    first, second = ([i for rows in seen[at : at + 3] for i in rows] for at in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


def test_the_generator_handed_in_is_the_only_randomness():
    models = [network() for _ in range(3)]
    for model, name, unrelated in zip(models, ("a", "a", "b"), (1, 2, 1), strict=True):
        torch.rand(unrelated, generator=torch.default_generator)
        train(model, generator=run.generator(name))
    assert torch.equal(weights(models[0]), weights(models[1]))
    assert not torch.equal(weights(models[0]), weights(models[2]))


def test_torchs_own_stream_is_left_as_it_was():
    model = network()
    before = torch.get_rng_state()
    train(model)
    assert torch.equal(torch.get_rng_state(), before)


def test_modes_are_put_back_and_right_in_between():
    model, modes = network(), []
    model.train()
    model[1].eval()

    def watched(model):
        modes.append((model.training, model[3].training, torch.is_grad_enabled()))
        return score(model)

    train(model, 10, validation=watched)
    assert modes == [(False, False, False)]
    assert model.training and model[3].training and not model[1].training


def test_a_frozen_parameter_stays():
    model = network()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    train(model)
    assert torch.equal(model[0].weight, before) and not torch.equal(model[4].weight, network()[4].weight)


def scripted(*values):
    """A validation that gives these scores, and the weights it saw."""
    left, seen = list(values), []

    def validation(model):
        seen.append(weights(model))
        return left.pop(0)

    return validation, seen


def test_patience_counts_evaluations_and_the_best_weights_come_back():
    validation, seen = scripted(0.1, 0.5, 0.5, 0.4, 0.9)
    model = network()
    record = train(model, 1000, every=5, validation=validation, patience=2)
    assert record.scores == [(5, 0.1), (10, 0.5), (15, 0.5), (20, 0.4)] and record.steps == 20
    assert (record.best_step, record.best_score) == (10, 0.5)
    assert torch.equal(weights(model), seen[1]) and not torch.equal(seen[1], seen[3])


def test_a_better_score_renews_the_patience_and_the_last_step_is_evaluated():
    validation, _ = scripted(0.1, 0.0, 0.2, 0.0, 0.3)
    record = train(network(), 23, every=5, validation=validation, patience=2)
    assert [s for s, _ in record.scores] == [5, 10, 15, 20, 23] and record.best_step == 23


def test_without_validation_the_last_weights_stay():
    record = train(network(), 7)
    assert (record.scores, record.best_step, record.best_score) == ([], 7, None)


def test_autocast_computes_in_bfloat16_and_keeps_the_weights():
    kinds = set()

    def watched(model, x, y):
        kinds.add(model(x).dtype)
        return loss(model, x, y)

    model = network()
    fit(model, (X, y), watched, 3, generator=run.generator("order"), precision="bf16-mixed")
    assert kinds == {torch.bfloat16} and model[0].weight.dtype == torch.float32


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(data=X), "data=Tensor: expected a tuple"),
        (dict(data=()), "data=tuple: expected a tuple"),
        (dict(data=(X, y[:-1])), r"data has \[70, 69\] rows"),
        (dict(data=(X[:0], y[:0])), r"data has \[0, 0\] rows"),
        (dict(steps=0), "steps=0: expected a whole number"),
        (dict(batch=1.5), "batch=1.5"),
        (dict(every=-1), "every=-1"),
        (dict(patience=0, validation=score), "patience=0"),
        (dict(patience=3), "patience=3: it counts evaluations"),
        (dict(precision="fp8"), "precision='fp8'"),
        (dict(lr=0.0), "lr=0.0: expected a positive number"),
        (dict(optimizer="adam"), "optimizer='adam'"),
        (dict(generator=7), "generator=7: expected a torch.Generator"),
        (dict(model=nn.Tanh()), "model=Tanh has no parameter"),
        (dict(loss=lambda model, x, y: model(x)), r"loss gives shape \(16, 3\): expected a scalar"),
        (dict(loss=lambda model, x, y: 1.0), "loss gives a float"),
    ],
)
def test_bad_arguments_are_named(changed, told):
    whole = dict(model=network(), data=(X, y), loss=loss, steps=10, batch=16, generator=run.generator("order"))
    with pytest.raises(ValueError, match=told):
        fit(**(whole | changed))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_at_its_step(bad):
    model, calls = network(), []

    def breaks(model, x, y):
        calls.append(weights(model))
        return loss(model, x, y) * (bad if len(calls) == 5 else 1)

    with pytest.raises(RuntimeError, match=rf"loss is {bad} at step 5"):
        fit(model, (X, y), breaks, 30, batch=16, generator=run.generator("order"))
    trained = [i for i, p in enumerate(model.state_dict()) if "running" not in p and "num_batches" not in p]
    assert len(calls) == 5 and len(trained) == 6
    assert torch.isfinite(weights(model)).all()


def test_a_score_that_is_not_finite_is_named():
    with pytest.raises(RuntimeError, match="validation gave nan at step 10"):
        train(network(), validation=lambda model: float("nan"))


# ---------------------------------------------------------------- checkpoints


class Killed(Exception):
    pass


def killed_at(step):
    calls = []

    def dying(model, x, y):
        calls.append(1)
        if len(calls) > step:
            raise Killed
        return loss(model, x, y)

    return dying


@pytest.mark.parametrize("optimizer", [None, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), torch.optim.Rprop])
@pytest.mark.parametrize("step", [3, 10, 27])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path, optimizer, step):
    whole, other, path = network(), network(), tmp_path / "run.safetensors"
    settings = dict(batch=16, every=5, validation=score, optimizer=optimizer)
    generators = [run.generator("order") for _ in range(3)]
    expected = fit(whole, (X, y), loss, 40, **settings, generator=generators[0])
    with pytest.raises(Killed):
        fit(network(), (X, y), killed_at(step), 40, **settings, generator=generators[1], checkpoint=path)
    assert path.exists() == (step >= 5)
    record = fit(other, (X, y), loss, 40, **settings, generator=generators[2], checkpoint=path)
    assert torch.equal(weights(whole), weights(other))
    assert (record.losses, record.scores, record.best_step) == (expected.losses, expected.scores, expected.best_step)
    assert torch.equal(generators[0].get_state(), generators[2].get_state())
    assert [p.name for p in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_loss_that_draws_goes_on_drawing_where_it_was(tmp_path):
    def noisy(generator, step):
        dying = killed_at(step)
        return lambda model, x, y: dying(model, x + torch.randn(x.shape, generator=generator), y)

    def go(step, model, path):
        generator = run.generator("order")
        return fit(model, (X, y), noisy(generator, step), 20, batch=16, every=5, generator=generator, checkpoint=path)

    whole, other = network(), network()
    go(99, whole, None)
    with pytest.raises(Killed):
        go(12, network(), tmp_path / "run")
    go(99, other, tmp_path / "run")
    assert torch.equal(weights(whole), weights(other))


def test_a_learning_rate_that_was_changed_on_the_way_stays_changed(tmp_path):
    def go(step, model, path):
        made, dying = [], killed_at(step)

        def slowing(model, x, y):
            made[0].param_groups[0]["lr"] *= 0.9
            return dying(model, x, y)

        def optimizer(parameters):
            made.append(torch.optim.SGD(parameters, lr=0.1))
            return made[0]

        return fit(model, (X, y), slowing, 20, every=5, optimizer=optimizer, generator=run.generator("order"), checkpoint=path)

    whole, other = network(), network()
    go(99, whole, None)
    with pytest.raises(Killed):
        go(12, network(), tmp_path / "run")
    go(99, other, tmp_path / "run")
    assert torch.equal(weights(whole), weights(other))


def test_a_finished_run_is_not_trained_again(tmp_path):
    model, again = network(), network()
    first = train(model, checkpoint=tmp_path / "run", validation=score)
    second = train(again, checkpoint=tmp_path / "run", validation=lambda model: pytest.fail("evaluated"))
    assert torch.equal(weights(model), weights(again)) and first == second


def test_a_run_out_of_patience_is_finished_too(tmp_path):
    validation, _ = scripted(0.5, 0.4)
    first = train(network(), 1000, validation=validation, patience=1, checkpoint=tmp_path / "run")
    assert first.steps == 20
    assert train(network(), 1000, validation=lambda model: 1.0, patience=1, checkpoint=tmp_path / "run") == first


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (dict(steps=31), "with steps: 30; this call has 31"),
        (dict(batch=8), "with batch: 16; this call has 8"),
        (dict(lr=1e-3), "with optimizer: Adam .*0.01.*this call has Adam .*0.001"),
        (dict(optimizer=lambda p: torch.optim.SGD(p, lr=0.01)), "with optimizer: Adam .*this call has SGD"),
        (dict(generator=run.generator("another")), "with generator"),
        (dict(validation=score), "with validation: False"),
        (dict(precision="bf16-mixed"), "with precision"),
        (dict(model=nn.Sequential(nn.Linear(6, 3))), "with model: Sequential"),
        (dict(data=(X + 1, y)), "with data"),
    ],
)
def test_another_runs_checkpoint_is_refused_and_stays(tmp_path, changed, told):
    path = tmp_path / "run.safetensors"
    train(network(), checkpoint=path)
    before = path.read_bytes()
    arguments = dict(model=network(), data=(X, y), steps=30, batch=16, lr=1e-2, every=10, generator=run.generator("order"))
    with pytest.raises(ValueError, match=f"run.safetensors' is another run's: it was made {told}"):
        fit(loss=loss, checkpoint=path, **(arguments | changed))
    assert path.read_bytes() == before


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run"
    train(network(), checkpoint=path)
    whole = path.read_bytes()
    foreign = training.save({"a": torch.ones(2)})
    for content in (b"", whole[: len(whole) // 2], b"\x80\x04]q\x00.", foreign):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is damaged or none of fit's: delete it"):
            train(network(), checkpoint=path)


def test_nothing_in_a_checkpoint_is_a_pickle(tmp_path):
    train(network(), checkpoint=tmp_path / "run")
    tensors = load_file(tmp_path / "run")
    assert {k.split("/")[0] for k in tensors} == {"model", "optimizer", "order", "losses", "stream"}


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    path, original = tmp_path / "run", type(tmp_path).write_bytes
    count = []

    def full(self, data):
        count.append(1)
        if len(count) == 2:
            original(self, data[:100])
            raise OSError(28, "No space left on device")
        return original(self, data)

    monkeypatch.setattr(type(tmp_path), "write_bytes", full)
    with pytest.raises(RuntimeError, match="The disk is full: run was not written"):
        train(network(), checkpoint=path)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    resumed, whole = network(), network()
    assert len(train(resumed, checkpoint=path).losses) == 30
    train(whole)
    assert torch.equal(weights(resumed), weights(whole))


def test_a_checkpoint_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RuntimeError, match="file/run' could not be written at step 10"):
        train(network(), checkpoint=tmp_path / "file" / "run")


def test_an_optimizer_that_cannot_be_stored_is_named(tmp_path):
    class Odd(torch.optim.SGD):
        def step(self):
            super().step()
            for p in self.param_groups[0]["params"]:
                self.state[p]["seen"] = object()

    with pytest.raises(ValueError, match="Odd keeps what is neither a tensor nor a number"):
        train(network(), optimizer=Odd, checkpoint=tmp_path / "run")


@pytest.mark.slow
def test_a_process_killed_half_way_goes_on_to_the_same_bits(tmp_path):
    code = """
    import os, sys
    from safetensors.torch import save_file
    folder, kill = os.environ["FOLDER"], int(os.environ["KILL"])
    calls = []
    def validation(model):
        calls.append(1)
        if len(calls) == kill:
            os.kill(os.getpid(), 9)
        return accuracy(model, X, y)
    model = network()
    train(model, 60, validation=validation, checkpoint=folder + "/run")
    save_file(model.state_dict(), folder + "/end")
    """
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    outcomes = [
        in_a_process(code, FOLDER=str(tmp_path / name), KILL=kill).returncode
        for name, kill in (("whole", "0"), ("killed", "4"), ("killed", "0"))
    ]
    assert outcomes == [0, -9, 0]
    whole, resumed = (load_file(tmp_path / name / "end") for name in ("whole", "killed"))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


# ---------------------------------------------------------------- Fabric


def test_a_quick_run_on_a_cpu_never_imports_fabric():
    result = in_a_process("train(network()); import sys; print('lightning_fabric' in sys.modules)")
    assert (result.stdout, result.stderr) == ("False\n", "")


@pytest.mark.slow
def test_full_scale_goes_through_fabric_silently_to_the_same_bits(tmp_path):
    code = """
    import os, sys
    from safetensors.torch import save_file
    model = network()
    train(model, validation=lambda m: accuracy(m, X, y))
    save_file(model.state_dict(), os.environ["TO"])
    print("lightning_fabric" in sys.modules)
    """
    said = [in_a_process(code, TO=str(tmp_path / s), KERNELBOOK_SCALE=s) for s in ("quick", "full")]
    assert [(s.stdout, s.stderr) for s in said] == [("False\n", ""), ("True\n", "")]
    quick, full = (load_file(tmp_path / s) for s in ("quick", "full"))
    assert all(torch.equal(quick[k], full[k]) for k in quick)


SPREAD = """
import os, sys
from safetensors.torch import save_file

class Odd(nn.Module):
    '''Parts that DDP would stumble over: a frozen one, one never used, one used through torch.func, one for some rows only.'''
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(6, 16), nn.Linear(16, 3)
        self.frozen, self.unused, self.sometimes = nn.Linear(6, 16), nn.Linear(2, 2), nn.Linear(6, 16)
        self.frozen.requires_grad_(False)
        self.register_buffer("mean", torch.zeros(6))
        self.double()

def odd_loss(model, x, y):
    hidden = torch.func.functional_call(model.first, dict(model.first.named_parameters()), (x,)) + model.frozen(x)
    if model.training:
        model.mean.copy_(x.mean(0))  # as a batch norm does: of a rank's own rows
    if (y == 0).any():
        hidden = hidden + model.sometimes(x) * (y == 0)[:, None]
    return nn.functional.cross_entropy(model.last(hidden.tanh()), y)

def go(steps, checkpoint=None, stop=None):
    model, seen = filled(Odd()), []
    with torch.no_grad():
        model.last.bias += float(rank == "1")  # rank 0's weights are the ones to begin with
    def dying(model, x, y):
        seen.append(len(x))
        if len(seen) == stop:
            raise KeyError("stop")
        return odd_loss(model, x, y)
    settings = dict(batch=11, every=10, optimizer=lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1))
    try:
        record = fit(model, (X[:67].double(), y[:67]), dying, steps, **settings, generator=generator, checkpoint=checkpoint,
                     validation=lambda m: -float(odd_loss(m, X.double(), y)), progress=True)
    except KeyError:
        return None
    return model.state_dict() | {"losses": torch.tensor(record.losses), "seen": torch.tensor(seen),
                                 "scores": torch.tensor(record.scores, dtype=torch.float64),
                                 "generator": generator.get_state()}

rank, folder = os.environ.get("RANK", "alone"), os.environ["FOLDER"]
generator = run.generator("spread")
save_file(go(40), f"{folder}/whole-{rank}")
if rank != "alone":
    generator = run.generator("spread")
    go(40, folder + "/run", stop=27)
    generator = run.generator("spread")
    save_file(go(40, folder + "/run"), f"{folder}/resumed-{rank}")
"""


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available() or sys.platform == "win32", reason="torchrun needs torch.distributed")
def test_two_processes_take_the_steps_of_one(tmp_path):
    script = tmp_path / "spread.py"
    script.write_text(SETTING + SPREAD)
    alone = in_a_process("", str(script), FOLDER=str(tmp_path))
    assert alone.returncode == 0, alone.stderr
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    both = in_a_process("", *torchrun, FOLDER=str(tmp_path), KERNELBOOK_SCALE="full")
    assert both.returncode == 0, both.stderr
    one, first, second, resumed = (load_file(tmp_path / n) for n in ("whole-alone", "whole-0", "whole-1", "resumed-0"))
    assert both.stdout.count("step 40/40") == 2  # one line each for two runs, of rank 0 alone
    expected = ((one, [11] * 6 + [1]), (first, [6] * 6 + [1]), (second, [5] * 6 + [1]))
    assert all(end["seen"][:7].tolist() == sizes for end, sizes in expected)
    for name in set(one) - {"seen"}:
        assert torch.equal(first[name], second[name]), name
        assert torch.equal(first[name], resumed[name]), name
        error = (one[name].double() - first[name].double()).abs().max()
        assert name == "mean" or error < (1e-6 if name == "losses" else 1e-12), name
    assert not torch.equal(one["first.weight"], one["frozen.weight"])


# ---------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    ("variables", "progress", "lines"),
    [({}, None, 0), ({}, True, 1), ({}, False, 0), ({"STATIC": "1"}, True, 0), ({"SURVEY": "1"}, True, 0)],
)
def test_progress_is_for_those_who_watch(monkeypatch, capsys, variables, progress, lines):
    for name in ("STATIC", "SURVEY"):
        monkeypatch.delenv(f"KERNELBOOK_{name}", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(f"KERNELBOOK_{name}", value)
    train(network(), 25, validation=score, progress=progress)
    shown = capsys.readouterr()
    assert shown.out.count("\n") == lines and not shown.err
    assert ("step 25/25  loss " in shown.out and "score 0." in shown.out) == bool(lines)


def test_a_terminal_is_watched(monkeypatch, capsys):
    monkeypatch.delenv("KERNELBOOK_STATIC", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    train(network(), 5)
    assert "\rstep 5/5" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("static", ["", "1"])
def test_a_notebook_has_a_bar_and_a_page_has_none(static, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    cells = [nbformat.v4.new_code_cell(c) for c in (SETTING, "train(network(), 200);")]
    client = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name="python3", timeout=120)
    client.execute(env={**os.environ, "KERNELBOOK_STATIC": static, "OMP_NUM_THREADS": "1"})
    outputs = cells[1].outputs
    kinds = [k for o in outputs if "data" in o for k in o["data"] if "widget" in k]
    assert kinds == ([] if static else ["application/vnd.jupyter.widget-view+json"])
    assert not [o for o in outputs if o.output_type == "stream"]
    bars = [s for s in client.widget_state.values() if s.get("_model_name") == "IntProgressModel"]
    assert [b["value"] for b in bars] == ([] if static else [200])


# ---------------------------------------------------------------- accuracy and pairs


def test_accuracy_counts_the_largest_output():
    outputs = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    for batch in (1, 2, 1024):
        assert accuracy(nn.Identity(), outputs, torch.tensor([1, 0, 0]), batch=batch) == pytest.approx(2 / 3)


def test_accuracy_is_of_the_model_in_eval_mode_and_puts_the_mode_back():
    model = network(dropout=0.9)
    model.train()
    model[1].eval()
    expected = float((model.eval()(X).argmax(1) == y).double().mean())
    model.train()
    model[1].eval()
    before = weights(model)
    assert {accuracy(model, X, y) for _ in range(3)} == {expected}
    assert model[3].training and not model[1].training and torch.equal(weights(model), before)


@pytest.mark.parametrize(
    ("inputs", "labels", "told"),
    [(X, y[:-1], "X has shape"), (X[:0], y[:0], "from 1 upwards"), (X, y[:, None], "X has shape")],
)
def test_accuracy_checks_shapes(inputs, labels, told):
    with pytest.raises(ValueError, match=told):
        accuracy(network(), inputs, labels)
    with pytest.raises(ValueError, match=r"model gives \(70, 6, 1\)"):
        accuracy(nn.Unflatten(1, (6, 1)), X, y)


def test_pairs_are_aligned_and_in_turn():
    calls = []
    methods = {"a": lambda s: calls.append(("a", s)) or s, "b": lambda s: calls.append(("b", s)) or {"x": torch.tensor(-s)}}
    results = paired_runs(methods, (s for s in (5, 3)))
    assert results == {"a": [5.0, 3.0], "b": [{"x": -5.0}, {"x": -3.0}]}
    assert calls == [("a", 5), ("b", 5), ("a", 3), ("b", 3)]


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (lambda seed: {}["missing"], "KeyError: 'missing'"),
        (lambda seed: float("nan"), "it gave nan, expected finite numbers"),
        (lambda seed: {"a": float("inf")}, "it gave inf"),
        (lambda seed: "much", "ValueError"),
    ],
)
def test_a_method_that_fails_is_named_with_its_seed(method, told):
    with pytest.raises(RuntimeError, match=f"method 'bad' with seed 7: .*{told}"):
        paired_runs({"good": float, "bad": method}, [7])


@pytest.mark.parametrize(("methods", "seeds"), [({}, [1]), ({"a": float}, []), ({"a": float}, [1, 1])])
def test_pairs_need_methods_and_distinct_seeds(methods, seeds):
    with pytest.raises(ValueError, match="distinct seeds"):
        paired_runs(methods, seeds)
