import json
import re
from pathlib import Path

import pytest
from kernelbook.evidence import stats
from kernelbook.pages import listing


def test_a_listing_is_the_source_without_its_docstring():
    shown = listing.listing(stats.fitted_exponent)
    text = listing.source(Path(shown.file), shown.name)
    assert text.startswith("def fitted_exponent(x") and "Least-squares slope" not in text and "slope = float(u @ v" in text
    compile(text, "listing", "exec")


def test_decorators_and_comments_stay():
    text = listing.source(Path(stats.__file__), "Exponent")
    assert text.startswith("@dataclass(frozen=True)\nclass Exponent:")


def test_what_is_not_ours_is_refused():
    with pytest.raises(ValueError, match="expected a function or class of the kernelbook library"):
        listing.listing(json.dumps)
    with pytest.raises(ValueError, match="name='gone'"):
        listing.source(Path(stats.__file__), "gone")


def test_the_bundle_has_a_readable_fallback():
    bundle = listing.listing(stats.mean_interval)._repr_mimebundle_()
    assert bundle[listing.MIME] == {"module": "kernelbook.evidence.stats", "name": "mean_interval"}
    assert "mean_interval" in re.sub("<[^>]+>", "", bundle["text/html"])
