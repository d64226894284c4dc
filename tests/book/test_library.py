"""The library's rules: imports go down, rooms are empty doors, public names say what they are."""

import ast
import subprocess
import sys

import pytest
from kernelbook.evidence import house

ROOMS = {
    "data": set(),
    "gpu": set(),
    "similarity": {"gpu"},
    "convolution": {"gpu"},
    "models": {"similarity", "convolution", "gpu"},
    "evidence": {"data"},
    "pages": {"evidence", "models", "similarity", "convolution", "gpu", "data"},
}
HEAVY = {"lightning", "ot", "sklearn", "skimage", "dask", "networkx", "matplotlib", "jupyter_book", "nbmake", "sphinx", "triton"}
FILES = sorted(house.PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(house.PACKAGE).as_posix())


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


@each_file
def test_imports_go_down_the_rooms(path):
    if path.parent == house.PACKAGE:
        return
    room = path.relative_to(house.PACKAGE).parts[0]
    for name in imported(ast.parse(path.read_text())):
        parts = name.split(".")
        if parts[0] == "kernelbook" and len(parts) > 1:
            assert parts[1] == room or parts[1] in ROOMS[room], f"{room} imports {name}"


def test_every_room_is_known_and_its_door_is_empty():
    rooms = {p.name for p in house.PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms == set(ROOMS)
    assert all(not (house.PACKAGE / r / "__init__.py").read_text().strip() for r in rooms)


@each_file
def test_nothing_heavy_is_imported_at_the_top(path):
    room = path.relative_to(house.PACKAGE).parts[0]
    top = [n for n in ast.parse(path.read_text()).body if isinstance(n, (ast.Import, ast.ImportFrom))]
    names = {n.split(".")[0] for node in top for n in imported(ast.Module([node], []))}
    allowed = {"matplotlib", "sphinx", "nbmake"} if room == "pages" else set()
    assert not names & (HEAVY - allowed)


def test_what_every_chapter_imports_stays_light():
    code = "import sys; from kernelbook.evidence import run, claims; print(sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {f"'{h}'" for h in HEAVY if f"'{h}'" in loaded and h != "triton"}


@each_file
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    if path.name != "__init__.py":
        assert ast.get_docstring(tree), "a module says what it is"
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith(("_", "pytest_")):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
