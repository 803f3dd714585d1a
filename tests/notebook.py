"""Notebooks without Jupyter: runs the cells of one, and stores what they give: `python -m tests.notebook`.

Rules: the standard library is enough. The cells run in order, in one namespace, in this process; a cell gives what it
prints and then its last expression, as Jupyter's kernel does: a value with `_repr_html_` as that and its repr, any
other as its repr, None not at all. What differs from one time to the next (folders, seconds) is put the same way, and
neither counts nor dates are stored, so that a notebook which says the same is the same file.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"

Output = dict[str, Any]  # as notebooks have it: {"output_type": "stream" or "execute_result", ...}

SAME = (
    (re.compile(r"DiskCache [^\s<]*/"), "DiskCache …/"),  # up to `<`: the tags after a path have a / too
    (re.compile(r"\b(?:under )?[\d,]+\.\d s\b"), "under 0.1 s"),
)


def code_cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def executed(notebook: Mapping[str, Any]) -> Iterator[list[Output]]:
    """The outputs of each code cell, one after the other. What a cell raises comes out, with the cell's id in it."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(notebook):
        yield _run("".join(cell["source"]), names, f"<cell {cell['id']}>")


def _run(source: str, names: dict[str, Any], where: str) -> list[Output]:
    tree = ast.parse(source, where)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    value = None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)  # noqa: S307  # ours
    outputs: list[Output] = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None:
        shown = value._repr_html_() if hasattr(value, "_repr_html_") else None
        data = {"text/html": shown} if shown is not None else {}
        outputs.append({"output_type": "execute_result", "data": {**data, "text/plain": repr(value)}})
    return outputs


def settled(outputs: Iterable[Mapping[str, Any]]) -> list[Output]:
    """Outputs, from here, from a file or from a kernel, in the one form in which they are stored and compared."""
    made: list[Output] = []
    for one in outputs:
        kind = one["output_type"]
        if kind == "stream":
            text = "".join(one["text"])
            if made and made[-1].get("name") == one["name"]:  # a kernel may send it in pieces
                text = "".join(made.pop()["text"]) + text
            made.append({"name": one["name"], "output_type": kind, "text": _lines(text)})
        elif kind == "execute_result":
            data = {mime: _lines("".join(text)) for mime, text in sorted(one["data"].items())}
            made.append({"data": data, "execution_count": None, "metadata": {}, "output_type": kind})
        else:
            made.append(dict(one))
    return made


def _lines(text: str) -> list[str]:
    for pattern, same in SAME:
        text = pattern.sub(same, text)
    return text.splitlines(keepends=True)


def written(notebook: Mapping[str, Any]) -> str:
    """A notebook as the text of its file."""
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    notebook = json.loads(TUTORIAL.read_text("utf-8"))
    for cell, outputs in zip(code_cells(notebook), executed(notebook), strict=True):
        cell.update(outputs=settled(outputs), execution_count=None)
    TUTORIAL.write_text(written(notebook), "utf-8")
    print(f"{TUTORIAL.relative_to(ROOT)}: {TUTORIAL.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
