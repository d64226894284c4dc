import json

import pytest
from kernelbook.evidence import house, record, run
from kernelbook.evidence.source import code_hash

SCALE = 2.0


def helper(seed):
    return SCALE * run.rng("value", seed=seed).normal()


def compute(seed):
    """One number."""
    return 5 + helper(seed)


def compute_two(seed):
    return {"a": helper(seed), "b": 1.0}


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELBOOK_ROOT", str(tmp_path))
    monkeypatch.setenv("KERNELBOOK_RECORD", "1")
    return tmp_path


def test_recording_keeps_the_seeds_and_runs_this_one_live(elsewhere, monkeypatch):
    made = record.recorded("value", compute, seeds=8)
    assert len(set(made.values)) == 8 and made.live not in made.values
    monkeypatch.delenv("KERNELBOOK_RECORD")
    calls = []
    again = record.recorded("value", compute, seeds=8)
    assert again == made and not calls
    assert json.loads((house.book() / "data/recorded/value.json").read_text())["seeds"] == 8


def test_without_recording_only_this_runs_seed_is_computed(elsewhere, monkeypatch):
    record.recorded("value", compute, seeds=8)
    monkeypatch.delenv("KERNELBOOK_RECORD")
    monkeypatch.setitem(globals(), "helper", helper)
    counted = []
    original = run.rng
    monkeypatch.setattr(run, "rng", lambda *a, **k: counted.append(1) or original(*a, **k))
    record.recorded("value", compute, seeds=8)
    assert len(counted) == 1


def test_other_code_makes_the_record_stale(elsewhere, monkeypatch):
    record.recorded("value", compute, seeds=4)
    monkeypatch.delenv("KERNELBOOK_RECORD")
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    with pytest.raises(record.RecordMissing, match="made by other code than compute=compute"):
        record.recorded("value", compute, seeds=4)


def loops(seed):
    total = 0.0
    for BESIDE in range(3):
        total += BESIDE * helper(seed)
    return total + sum(BESIDE for BESIDE in range(seed % 3))


def test_a_local_name_is_no_global_of_the_same_name(monkeypatch):
    monkeypatch.setitem(globals(), "BESIDE", 1)
    key = record.source_key(loops)
    monkeypatch.setitem(globals(), "BESIDE", 2)
    assert record.source_key(loops) == key
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert record.source_key(loops) != key


class Walk:
    step = 1.0

    def __init__(self, seed):
        self.seed = seed

    @property
    def end(self):
        return self.step * helper(self.seed)


class LongWalk(Walk):
    pass


kinds = {"walk": (LongWalk, lambda x: x + 1)}


def by_kind(seed):
    Kind, after = kinds["walk"]
    return after(Kind(seed).end)


def test_classes_in_a_dict_count_with_their_bases_and_what_they_name(monkeypatch):
    key = record.source_key(by_kind)
    assert record.source_key(by_kind) == key
    monkeypatch.setattr(Walk, "step", 2.0)
    assert record.source_key(by_kind) != key
    monkeypatch.undo()
    monkeypatch.setattr(Walk, "end", property(lambda self: 7.0))
    assert record.source_key(by_kind) != key
    monkeypatch.undo()
    monkeypatch.setitem(globals(), "SCALE", 3.0)
    assert record.source_key(by_kind) != key
    monkeypatch.undo()
    monkeypatch.setitem(kinds, "walk", (LongWalk, lambda x: x + 2))
    assert record.source_key(by_kind) != key


def test_a_class_of_a_notebook_has_a_key(tmp_path, monkeypatch):
    """Jupyter's classes are of __main__, which has no file: only their functions can be found."""
    import linecache

    def key(body):
        cell = f"class Net:\n    def forward(self):\n        return {body}\n\ndef run_it(seed):\n    return Net().forward()\n"
        linecache.cache["<cell>"] = (len(cell), None, cell.splitlines(True), "<cell>")
        scope = {"__name__": "__main__"}
        exec(compile(cell, "<cell>", "exec"), scope)
        return record.source_key(scope["run_it"])

    assert key("1") == key("1  # the same") != key("2")


def test_a_list_may_depend_on_the_seed(monkeypatch):
    monkeypatch.setitem(globals(), "kinds", {"walk": (LongWalk, float), "seeds": [1, 2]})
    key = record.source_key(by_kind)
    monkeypatch.setitem(globals(), "kinds", {"walk": (LongWalk, float), "seeds": [3, 4]})
    assert record.source_key(by_kind) == key


def test_a_missing_record_says_what_to_do(elsewhere, monkeypatch):
    monkeypatch.delenv("KERNELBOOK_RECORD")
    with pytest.raises(record.RecordMissing, match="make record"):
        record.recorded("nothing", compute)


def test_named_numbers_are_picked_apart(elsewhere):
    made = record.recorded("two", compute_two, seeds=4)
    assert made["b"].live == 1.0 and made["a"].values != made["b"].values
    with pytest.raises(ValueError, match="pick one"):
        made.against((0, 1))


def test_a_record_of_what_is_not_finite_is_refused_and_nothing_is_written(elsewhere):
    with pytest.raises(ValueError, match="finite"):
        record.recorded("bad", lambda seed: float("nan"), seeds=4)
    assert not list(elsewhere.rglob("*.json*"))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f(x):\n    return x", "def f(x):\n    # why\n    return x", True),
        ("def f(x):\n    return x", 'def f(x):\n    """What."""\n    return x', True),
        ('"""Module."""\nx = 1', "x  =  1", True),
        ("def f(x):\n    return x", "def f(x):\n    return -x", False),
        ("x = 'a'", "x = 'b'", False),
        ("class A:\n    'doc'", "class A:\n    pass", True),
    ],
)
def test_code_hash_sees_what_code_does_and_nothing_else(one, other, same):
    assert (code_hash(one) == code_hash(other)) is same


def test_a_smoke_run_needs_no_record(elsewhere, monkeypatch):
    monkeypatch.delenv("KERNELBOOK_RECORD")
    monkeypatch.setenv("KERNELBOOK_SMOKE", "1")
    made = record.recorded("value", compute, seeds=4)
    assert made.values == (made.live,) * 4 and not list(elsewhere.rglob("*.json"))
