"""What every chapter must have, read from its source."""

import ast
import itertools
import re
from statistics import median

import pytest
from kernelbook.evidence import execution, house, ledger
from kernelbook.pages.source_form import canonical
from kernelbook.pages.sphinx import LEVELS

CHAPTERS = [p for p in execution.notebooks() if p.parent.name != "solutions"]
PAGES = execution.notebooks()
PAPERS = ledger.papers()
ORDER = [c["name"] for part in ledger.outline() for c in part["chapters"]]
TITLES = {c["name"]: c["title"] for part in ledger.outline() for c in part["chapters"]}
CLAIM = re.compile(r"^claim(?:\.\w+)?\(\s*[\"']([a-z0-9-]+)/([a-z0-9-]+)[\"']", re.M)
RANDOM_TORCH = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "poisson"}

each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.relative_to(house.book()).with_suffix("").as_posix())
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda p: p.relative_to(house.book()).with_suffix("").as_posix())


def prose(chapter):
    return "\n".join(c.source for c in chapter.notebook.cells if c.cell_type == "markdown")


def counted(chapter):
    """Code cells that the rhythm counts, each with the prose right before it."""
    before, found = "", []
    for cell in chapter.notebook.cells:
        if cell.cell_type == "markdown":
            before += cell.source
        elif not execution.tags(cell) & {"exercise", "check", "solution"} and not CLAIM.match(cell.source):
            found.append((cell, before))
            before = ""
    return found


def lines(cell):
    return len([line for line in cell.source.splitlines() if line.strip()])


def test_there_are_chapters():
    assert CHAPTERS


def test_the_143_papers_are_listed_once_and_belong_to_chapters_of_the_outline():
    keys = [p["key"] for p in PAPERS]
    assert len(keys) == len(set(keys)) == 143
    assert {p["chapter"] for p in PAPERS} <= set(ORDER) and len(ORDER) == len(set(ORDER)) == 73
    for p in PAPERS:
        assert p["authors"] and p["title"] and 1990 <= p["year"] <= 2026, p["key"]
        assert p["doi"] or re.fullmatch(r"\d{4}\.\d{4,5}", p["arxiv"]), p["key"]
        assert p["code"] is None or p["code"].startswith("https://"), p["key"]


def test_all_pages_are_in_the_table_of_contents_in_the_books_order():
    text = (house.root() / "_toc.yml").read_text()
    listed = re.findall(r"file: book/(\S+)", text)
    names = [execution.read(p).name for p in PAGES]
    assert sorted(set(listed) & set(names)) == sorted(names)
    chapters = [n for n in listed if n in ORDER]
    assert chapters == sorted(chapters, key=ORDER.index)


@each_page
def test_the_source_is_what_jupytext_writes(path):
    text = path.read_text("utf8")
    assert canonical(text) == text, "run `make format`"


@each_chapter
def test_front_matter(path):
    chapter = execution.read(path)
    front, place = chapter.front, ORDER.index(chapter.name)
    assert front["level"] in LEVELS and front["meaning"] in ("compare", "slide", "compute")
    assert all(ORDER.index(n) < place for n in front["needs"]), "needs lists earlier chapters only"
    assert all(ORDER.index(n) > place for n in front.get("again", [])), "again lists later chapters only"
    assert front["papers"] == [p["key"] for p in PAPERS if p["chapter"] == chapter.name]


@each_chapter
def test_parts(path):
    chapter = execution.read(path)
    text, cells = prose(chapter), chapter.notebook.cells
    opening = cells[0].source
    assert re.findall(r"^# (.+)$", opening, re.M) == [TITLES[chapter.name]]
    assert "{admonition} Puzzle" in opening, "a puzzle stands before the first code cell"
    aims = re.search(r"ou will be able to\W*\n((?:\s*- .+\n?)+)", opening + "\n")
    assert aims and len(re.findall(r"^\s*- ", aims[1], re.M)) == 3, "three lines under 'You will be able to'"
    assert re.search(r"\{admonition\} What (differs from the paper|this page leaves out)", text)
    assert any(c.source.startswith("@explore(") or "\n@explore(" in c.source for _, c in chapter.code)
    assert re.search(r"^## Exercises$", text, re.M)
    endings = re.findall(r"^## (.+)$", text, re.M)[-2:]
    assert any("answer" in e.lower() for e in endings) and any("read next" in e.lower() for e in endings)
    assert re.search(r"\{prf:(theorem|definition|algorithm|proposition|lemma)\}", text)


@each_chapter
def test_no_heading_stands_empty(path):
    text = prose(execution.read(path))
    assert not re.search(r"^(#+) .+\n+\1 ", text, re.M)


@each_chapter
def test_rhythm(path):
    chapter = execution.read(path)
    cells = counted(chapter)
    sizes = sorted(lines(c) for c, _ in cells)
    assert median(sizes) <= 6 and sizes[int(0.9 * (len(sizes) - 1))] <= 20 and sizes[-1] <= 40, sizes
    assert len(cells) <= 16 * len(chapter.front["papers"]) + (10 if chapter.front["papers"] else 26)
    words = [len(re.sub(r"```.*?```", "", before, flags=re.S).split()) for _, before in cells]
    assert sum(w >= 20 for w in words) >= 0.9 * len(words), [
        c.source[:60] for (c, _), w in zip(cells, words, strict=True) if w < 20
    ]


@each_chapter
def test_no_import_wall(path):
    for cell, _ in counted(execution.read(path)):
        imports = [line for line in cell.source.splitlines() if re.match(r"(import|from) ", line)]
        assert len(imports) <= 6, cell.source


@each_chapter
def test_figures_have_captions_and_alt_text(path):
    for cell in (c for _, c in execution.read(path).code):
        if re.search(r"(?<![\w.])figure\(", cell.source) and "def " not in cell.source.split("figure(")[0]:
            about = cell.metadata.get("mystnb", {})
            assert len(about.get("image", {}).get("alt", "").split()) >= 6, f"alt text missing: {cell.source[:80]}"
            assert len(about.get("figure", {}).get("caption", "").split()) >= 6, f"caption missing: {cell.source[:80]}"
            assert about["figure"].get("name", "").startswith("fig-")


def test_claim_ids_are_unique_and_name_papers():
    known = {p["key"]: p["chapter"] for p in PAPERS} | {n.split("/")[1]: n for n in ORDER if n.startswith("foundations/")}
    seen = []
    for path in CHAPTERS:
        chapter = execution.read(path)
        for key, name in itertools.chain.from_iterable(CLAIM.findall(c.source) for _, c in chapter.code):
            assert known.get(key) == chapter.name, f"{chapter.place}: claim {key}/{name} belongs to {known.get(key)}"
            seen.append(f"{key}/{name}")
    assert len(seen) == len(set(seen))


@each_chapter
def test_every_paper_has_two_claims_of_a_mechanism_and_of_scale_or_limit(path):
    chapter = execution.read(path)
    for key in chapter.front["papers"]:
        kinds = [
            re.search(r"kind=\"(\w+)\"", c.source)[1]
            for _, c in chapter.code
            if re.match(rf"claim(?:\.\w+)?\(\s*\"{key}/", c.source)
        ]
        assert len(kinds) >= 2, key
        assert "mechanism" in kinds and {"scaling", "limit"} & set(kinds), (key, kinds)


@each_chapter
def test_claims_are_the_last_word_of_their_cells(path):
    for _, cell in execution.read(path).code:
        calls = re.findall(r"^\s*claim(?:\.\w+)?\(", cell.source, re.M)
        assert not calls or (len(calls) == 1 and CLAIM.match(cell.source)), f"a claim has a cell of its own: {cell.source[:80]}"


def assigned(code):
    """Names that a cell binds at its top level."""
    found = set()
    for node in ast.parse(code).body:
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        found |= {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name)}
        if isinstance(node, (ast.For, ast.With)):
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        found |= {node.name} if isinstance(node, ast.FunctionDef) else set()
    return found


@each_chapter
def test_live_explorers_use_no_name_that_a_later_cell_binds_again(path):
    cells = [c.source for _, c in execution.read(path).code if "exercise" not in execution.tags(c)]
    cells += [c.source for _, c in execution.read(path).code if "exercise" in execution.tags(c)]
    for i, code in enumerate(cells):
        for node in ast.parse(code).body:
            if isinstance(node, ast.FunctionDef) and "explore" in "".join(map(ast.unparse, node.decorator_list)):
                local = {a.arg for a in node.args.args} | {
                    n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                }
                used = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} - local
                later = set().union(*(assigned(c) for c in cells[i + 1 :])) if cells[i + 1 :] else set()
                assert not used & later, f"{node.name} draws with {sorted(used & later)}, which a later cell binds again"


# ---------------------------------------------------------------- one door for randomness


def randomness(code):
    """Names of the ways by which code draws random numbers other than through evidence.run."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if (
            isinstance(node, ast.For)
            and isinstance(node.target, ast.Name)
            and "seed" in node.target.id
            and "range" in ast.dump(node.iter)
        ):
            found.append("range as seeds")
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        keywords = {k.arg: k.value for k in node.keywords}
        last = name.split(".")[-1]
        if last in ("manual_seed", "default_rng", "RandomState", "seed_everything") or name.startswith(
            ("np.random.", "numpy.random.", "random.")
        ):
            found.append(name)
        if last in RANDOM_TORCH and name.startswith("torch.") and "generator" not in keywords:
            found.append(f"{name} without generator")
        for word in ("random_state", "seed"):
            if isinstance(keywords.get(word), ast.Constant) and keywords[word].value is not None:
                found.append(f"{word}={keywords[word].value}")
    return found


@pytest.mark.parametrize(
    "code",
    [
        "torch.manual_seed(0)",
        "np.random.default_rng(0)",
        "np.random.normal()",
        "torch.randn(3)",
        "f(random_state=0)",
        "for seed in range(5): pass",
    ],
)
def test_the_guard_sees_every_other_door(code):
    assert randomness(code)


def test_the_guard_lets_the_one_door_pass():
    assert not randomness(
        "torch.randn(3, generator=run.generator('x'))\nfor seed in run.seeds(5):\n    run.rng('y', seed=seed).normal()"
    )


@each_page
def test_chapters_draw_through_one_door(path):
    for _, cell in execution.read(path).code:
        code = "\n".join(line for line in cell.source.splitlines() if not line.startswith("%"))
        try:
            assert not randomness(code), cell.source
        except SyntaxError:
            assert execution.tags(cell) & {"exercise"}, cell.source


@pytest.mark.parametrize("path", sorted((house.PACKAGE).rglob("*.py")), ids=lambda p: p.relative_to(house.PACKAGE).as_posix())
def test_the_library_draws_through_one_door(path):
    # run makes generators; training hands the state of one that it was given on to torch's layers, and back; the package that
    # signals calls seeds the global states, which are put back
    doors = {
        "run.py": {"manual_seed", "default_rng"},
        "training.py": {"manual_seed"},
        "signals.py": {"get_state", "set_state", "getstate", "setstate"},
    }
    allowed = doors.get(path.name, set())
    assert {found.split(".")[-1] for found in randomness(path.read_text())} <= allowed


# ---------------------------------------------------------------- exercises


@each_chapter
def test_exercises_have_hints_and_solutions(path):
    chapter = execution.read(path)
    text = path.read_text("utf8")
    labels = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?::\w+:[^\n]*\n)*?:label: (\S+)", text)
    assert 3 <= len(labels) <= 5
    exercises = text[text.index("## Exercises") :]
    assert exercises.count("{dropdown} Hint") >= len(labels) - 1, "hints"
    solutions = (path.parent / "solutions" / path.name).read_text("utf8")
    solved = re.findall(r"\{solution(?:-start)?\} (\S+)", solutions)
    assert sorted(solved) == sorted(labels)
    checks = [c for _, c in chapter.code if "check" in execution.tags(c)]
    assert checks and all("skip-execution" in execution.tags(c) for c in checks)
