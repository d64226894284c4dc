"""The frozen corpora: whole, in a fixed order, licensed, and never silently another text."""

import pytest
from kernelbook.data import text


@pytest.mark.parametrize("name, shortest", [("docstrings", 200), ("sources", 150)])
def test_texts_are_of_the_promised_length_and_all_different(name, shortest):
    found = text.corpus(name)
    assert len(found) > 400 and found == text.corpus(name)
    assert all(shortest <= len(t.text) <= 1200 and t.text.isascii() and t.name for t in found)
    assert len({t.text for t in found}) == len(found)


def test_every_package_is_named_in_the_licenses():
    notices = (text.FOLDER / "LICENSES.txt").read_text("utf8")
    packages = {t.package for name in text.SHA256 for t in text.corpus(name)}
    assert packages == {"numpy", "scipy", "sklearn", "skimage", "networkx", "torch", "stdlib"}
    assert all(f"==== {p} " in notices for p in packages)


def test_sources_are_python():
    for t in text.corpus("sources"):
        compile(t.text, t.name, "exec")


def test_another_name_is_refused():
    with pytest.raises(ValueError, match="name='novels': expected one of docstrings, sources"):
        text.corpus("novels")


def test_a_changed_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(text, "FOLDER", tmp_path)
    (tmp_path / "sources.jsonl").write_text('{"package": "a", "name": "b", "text": "c"}\n')
    with pytest.raises(RuntimeError, match="git restores the frozen file"):
        text.corpus("sources")
