"""The examples of the documentation give what stands behind them."""

import doctest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    page
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    if ">>> " in page.read_text()
]


def test_the_tutorial_has_figures_to_check():
    assert ROOT / "docs" / "tutorial.md" in PAGES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_a_page_hold(page):
    found = doctest.testfile(str(page), module_relative=False, verbose=False)
    assert found.attempted > 0
    assert found.failed == 0


def test_example_that_is_wrong_is_noticed(tmp_path):
    """The twin: a page with a wrong figure does not pass."""
    page = tmp_path / "wrong.md"
    page.write_text(">>> 666 / 6748 > 0.1\nTrue\n")
    assert doctest.testfile(str(page), module_relative=False, verbose=False).failed == 1
