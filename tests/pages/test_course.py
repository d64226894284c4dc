"""Editions from the same sources: what the student's lacks, what the teacher's has, what becomes a slide."""

import pytest
from kernelbook.pages import course, slides
from throwaway import Copy, chapter

SECRET = "the_answer_is = 6 * 7  # by the distributive law"
EXERCISE = """#text ## Exercises

```{exercise-start}
:label: ex-answer
```
What is the answer?

```{code-cell} ipython3
:tags: [exercise, skip-execution]

answer = None
```

```{code-cell} ipython3
:tags: [check, skip-execution]

assert answer == 42, "not yet the answer"
```

```{exercise-end}
```"""
SOLUTION = f"""#text ```{{solution-start}} ex-answer
:label: sol-answer
```
One finds it by multiplying what stands there.

```{{code-cell}} ipython3
:tags: [solution, skip-execution]

{SECRET}
```

```{{solution-end}}
```"""


def contents(*files):
    return {"format": "jb-book", "root": "book/intro", "parts": [{"caption": "A", "chapters": [{"file": f} for f in files]}]}


def test_the_students_contents_have_no_solutions_and_no_empty_part():
    both = contents("book/width/tangent", "book/width/solutions/tangent")
    both["parts"].append({"caption": "Solutions", "chapters": [{"file": "book/width/solutions/depth"}]})
    assert course.student_contents(both) == contents("book/width/tangent")
    assert both["parts"][1]["chapters"]  # the original is left alone


def test_the_teachers_contents_put_solutions_below_their_chapter():
    made = course.teacher_contents(contents("book/width/depth", "book/width/tangent", "book/width/solutions/tangent"))
    assert made["parts"][0]["chapters"] == [
        {"file": "book/width/depth"},
        {"file": "book/width/tangent", "sections": [{"file": "book/width/solutions/tangent"}]},
    ]


@pytest.mark.slow
def test_editions(tmp_path, monkeypatch):
    copy = Copy(tmp_path)
    claimed = 'claim("ntk/x", "One is less than two.", measured=1.0, below=2, kind="limit")'
    claimed = f"from kernelbook.evidence.claims import claim\n{claimed}"
    copy.write("width/tangent", chapter("print(1 + 1)", claimed, EXERCISE))
    copy.write(
        "width/solutions/tangent", chapter(SOLUTION, title="Solutions").replace("papers: [ntk]", "solutions: width/tangent")
    )
    assert copy.run_chapters().returncode == 0
    early = copy.python("-m", "kernelbook.pages.course")
    assert early.returncode == 1 and "run `make book` first" in early.stdout
    assert copy.build().returncode == 0
    done = copy.python("-m", "kernelbook.pages.course")
    assert done.returncode == 0, done.stdout
    student, teacher, deck = (tmp_path / "out/course" / n for n in ("student", "teacher", "slides"))
    page = (student / "book/width/tangent.html").read_text()
    assert "not yet the answer" in page and "What is the answer?" in page
    assert not list(student.rglob("*solutions*"))
    for file in student.rglob("*"):
        assert not (
            file.is_file() and (b"distributive law" in file.read_bytes() or b"multiplying what stands" in file.read_bytes())
        ), file
    assert "distributive law" in (teacher / "book/width/solutions/tangent.html").read_text()
    assert "One is less than two." in (deck / "width-tangent.html").read_text()
    monkeypatch.setenv("KERNELBOOK_ROOT", str(tmp_path))
    assert course.traces(student) == []
    (student / "book/leak.html").write_text(f"<p>{SECRET}</p>")
    assert course.traces(student) == [f"book/leak.html: {SECRET}"]


PAGE = """<article><section id="t"><h1>A <em>title</em><a class="headerlink" href="#t">#</a></h1>
<div class="kb-header kb-slide">5 min</div><div class="admonition"><p>Guess.</p></div>
<section id="one"><h2>One</h2><p>First sentence. Second sentence.</p>
<div class="cell"><div class="cell_input"><pre>def f():\n    pass</pre></div></div>
<p>Look here. Or there.</p><div class="cell"><div class="cell_input"><pre>{long}</pre></div>
<div class="cell_output"><figure><img src="../../_images/a.svg"></figure></div></div><p>After the figure.</p></section>
</section></article>""".replace("{long}", "\n".join(f"x{i} = 1" for i in range(30)))


def test_a_page_is_cut_at_its_pictures_boxes_and_short_cells():
    title, meaning, made = slides.cut(PAGE)
    assert (title, meaning) == ("A title", "kb-slide")
    assert [s.kind for s in made] == ["title", "box", "code", "picture"]
    code, picture = made[2:]
    assert code.heading == "One" and "First sentence." in code.body and "Second" not in code.body
    assert "Second sentence." in "".join(code.notes)
    assert "x29" not in picture.body and "a.svg" in picture.body and "After the figure." in "".join(picture.notes)
    assert "#" not in made[0].body.replace("&#", "")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("One. Two.", "One."),
        ("See <code>a.b</code> now. Then.", "See <code>a.b</code> now."),
        ("Why? <b>Because.</b>", "Why?"),
        ("No end", "No end"),
    ],
)
def test_first_sentences(text, first):
    assert slides.first_sentence(text) == first


def test_what_is_no_chapter_is_refused():
    with pytest.raises(ValueError, match="expected a built chapter"):
        slides.cut("<p>nothing</p>")
