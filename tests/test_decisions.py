"""A decision names the tests that show it; they exist, and every difference has one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted((ROOT / "docs" / "decisions").glob("*.md"))
TESTS = {
    name
    for path in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.M)
}
NAMED = re.compile(r"^- `(test_\w+)`$", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@every_page
def test_the_tests_that_a_decision_names_exist(page: Path) -> None:
    assert [name for name in NAMED.findall(page.read_text("utf-8")) if name not in TESTS] == []


def test_every_difference_from_the_reference_names_a_test() -> None:
    text = (ROOT / "docs" / "decisions" / "0001-differences-from-the-reference.md").read_text("utf-8")
    sections = re.split(r"^### ", text, flags=re.MULTILINE)[1:]
    assert len(sections) >= 15 and [s.splitlines()[0] for s in sections if not NAMED.search(s)] == []
