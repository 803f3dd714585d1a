"""The tutorial runs as written, its stored outputs are true, and it is a file worth committing.

Rules: the standard library alone; `python -m tests.browser.tutorial` runs it in Jupyter's own kernel and looks at it in
a browser. After a change of the tutorial or of a display, `python -m tests.notebook` stores the outputs anew.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from typing import Any

import pytest

from tests.notebook import TUTORIAL, code_cells, executed, settled, written
from tests.test_docs import LINK, anchors

TEXT = TUTORIAL.read_text("utf-8")
NOTEBOOK = json.loads(TEXT)
SHOWN = {"Dag", "Plan", "Run", "Federation", "Report", "Explanation"}


@pytest.fixture(scope="module")
def outputs() -> list[list[dict[str, Any]]]:
    return list(executed(NOTEBOOK))


def results(cells: list[list[dict[str, Any]]]) -> list[dict[str, str]]:
    return [one["data"] for cell in cells for one in cell if one["output_type"] == "execute_result"]


def test_every_cell_runs_and_each_rich_one_gives_exactly_html_and_text(outputs: list[list[dict[str, Any]]]) -> None:
    assert len(outputs) == len(code_cells(NOTEBOOK)) > 10
    assert all(set(data) == {"text/html", "text/plain"} for data in results(outputs))


def test_everything_that_shows_itself_is_shown(outputs: list[list[dict[str, Any]]]) -> None:
    assert {re.split(r"\W+", data["text/plain"].lstrip("<"))[0] for data in results(outputs)} == SHOWN


def test_the_stored_outputs_are_what_the_cells_give(outputs: list[list[dict[str, Any]]]) -> None:
    stored = {cell["id"]: cell["outputs"] for cell in code_cells(NOTEBOOK)}
    given = {cell["id"]: settled(out) for cell, out in zip(code_cells(NOTEBOOK), outputs, strict=True)}
    assert stored == given, "python -m tests.notebook stores them anew"


def test_the_file_is_small_and_says_nothing_of_where_and_when_it_was_run() -> None:
    assert len(TEXT.encode()) < 150_000
    assert written(NOTEBOOK) == TEXT
    assert all(cell["execution_count"] is None and cell["metadata"] == {} for cell in code_cells(NOTEBOOK))
    assert not re.search(r"/tmp|/home|/root|/Users|[A-Z]:\\\\", TEXT)
    assert NOTEBOOK["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def test_it_needs_nothing_but_the_library_and_python() -> None:
    for cell in code_cells(NOTEBOOK):
        for part in ast.walk(ast.parse("".join(cell["source"]))):
            names = [a.name for a in part.names] if isinstance(part, ast.Import) else []
            names += [part.module or ""] if isinstance(part, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in {"artdag_fed"} | sys.stdlib_module_names


def test_its_cells_are_short_and_as_narrow_as_a_page() -> None:
    assert max(len(cell["source"]) for cell in code_cells(NOTEBOOK)) <= 20
    assert max(len(line.rstrip()) for cell in code_cells(NOTEBOOK) for line in cell["source"]) <= 100


def test_its_links_lead_somewhere() -> None:
    text = "".join("".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown")
    links = LINK.findall(text)
    assert len(links) > 5
    for link in links:
        path, _, anchor = link.partition("#")
        page = TUTORIAL.parent / path
        assert page.is_file() and (not anchor or anchor in anchors(page)), link


# --- what executes it -----------------------------------------------------------------------


def notebook(*sources: str) -> dict[str, Any]:
    return {"cells": [{"cell_type": "code", "id": f"c{at}", "source": [text]} for at, text in enumerate(sources)]}


def test_cells_share_their_names_and_give_what_they_print_and_their_last_expression() -> None:
    given = list(executed(notebook("x = 1", "print(x)\nx + 1", "None")))
    assert given == [
        [],
        [
            {"output_type": "stream", "name": "stdout", "text": "1\n"},
            {"output_type": "execute_result", "data": {"text/plain": "2"}},
        ],
        [],
    ]


def test_a_cell_that_raises_is_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        list(executed(notebook("1 / 0")))


def test_folders_and_seconds_are_put_the_same_way_and_nothing_else() -> None:
    text = "DiskCache /tmp/tmpa1/alice 1.2 s, 12 results, 1.2 kB, under 0.1 s"
    [one] = settled([{"output_type": "stream", "name": "stdout", "text": text}])
    assert one["text"] == ["DiskCache …/alice under 0.1 s, 12 results, 1.2 kB, under 0.1 s"]


def test_the_tags_after_a_folder_are_kept() -> None:
    text = "<caption><bdi>DiskCache /tmp/tmpa1/alice</bdi></caption>"
    [one] = settled([{"output_type": "execute_result", "data": {"text/html": text}}])
    assert one["data"]["text/html"] == ["<caption><bdi>DiskCache …/alice</bdi></caption>"]
