import pytest
from kernelbook.pages import site

PAGE = '<!doctype html><html><head>{head}</head><body id="top">{body}</body></html>'


@pytest.fixture
def page(tmp_path):
    def write(body="", head="", name="index.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(PAGE.format(head=head, body=body))
        return site.problems(tmp_path)

    (tmp_path / "there.png").write_bytes(b"")
    return write


@pytest.mark.parametrize(
    "load",
    [
        '<img src="https://example.org/a.png">',
        '<img src="//example.org/a.png">',
        '<img srcset="there.png 1x, https://example.org/a.png 2x">',
        '<script src="http://example.org/a.js"></script>',
        '<script type="module">import("https://example.org/a.mjs")</script>',
        '<iframe src="https://example.org"></iframe>',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<link rel="preconnect" href="https://example.org">',
        '<style>@import url("https://example.org/a.css");</style>',
        '<div style="background: url(https://example.org/a.png)"></div>',
        '<video><source src="https://example.org/a.mp4"></video>',
    ],
)
def test_every_foreign_load_is_found_with_its_line(page, load):
    (found,) = page(load)
    assert found.startswith("index.html:1: loads") and "example.org" in found


@pytest.mark.parametrize(
    "harmless",
    [
        '<a href="https://example.org">a link asks nobody until it is followed</a>',
        '<img src="there.png">',
        '<img src="data:image/png;base64,AAAA">',
        '<a href="#top">up</a>',
        '<a href="there.png?x=1">file</a>',
        '<a href="mailto:a@example.org">mail</a>',
    ],
)
def test_what_loads_nothing_foreign_passes(page, harmless):
    assert page(harmless) == []


@pytest.mark.parametrize(
    "missing", ['<img src="gone.png">', '<a href="gone.html">x</a>', '<script src="gone.js"></script>', '<a href="sub/">x</a>']
)
def test_missing_local_targets_are_found(page, missing):
    (found,) = page(missing)
    assert "does not exist" in found


def test_an_anchor_must_be_on_the_page_it_names(page):
    page(name="sub/other.html")
    assert page('<a href="sub/other.html#top">x</a>') == []
    assert page('<a href="sub/other.html#gone">x</a>') == ["index.html:1: sub/other.html#gone names an anchor that is not there"]


def test_foreign_loads_in_style_sheets_are_found(page, tmp_path):
    (tmp_path / "a.css").write_text("@font-face { src: url('https://example.org/f.woff2') }")
    assert page() == ["a.css: loads https://example.org/f.woff2 from another host"]


def test_a_folder_without_pages_is_no_site(tmp_path):
    with pytest.raises(ValueError, match="no page there"):
        site.problems(tmp_path)
