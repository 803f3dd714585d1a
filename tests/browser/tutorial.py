"""The tutorial as its readers see it: `python -m tests.browser.tutorial [--out FOLDER]`.

Runs it in Jupyter's own kernel, renders it in the light and in the dark theme, and loads both in headless Chromium.
Ends with 1 where a cell has an error, a rich one gives anything but exactly HTML and text, the outputs are not the
stored ones, a picture does not load, something is cut off at the right, or the console has something to say; with 3
where the group `notebook` or Chromium is not installed. With --out, the pages and pictures of them are left there, to
be looked at.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.browser import chromium
from tests.notebook import ROOT, TUTORIAL, code_cells, settled

RICH = {"text/html", "text/plain"}
LIGHT_FROM = 128  # of 255: what is brighter is light

LOOK = """(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const ground = getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).slice(0, 3).map(Number);
  return {
    cells: all(".jp-CodeCell").length,
    errors: all('[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type="application/vnd.jupyter.error"]')
      .map(one => one.textContent),
    rich: all('[data-mime-type="text/html"]').length,
    pictures: document.images.length,
    broken: [...document.images].filter(one => !one.complete || !one.naturalWidth).map(one => one.alt),
    ground: Math.max(...ground),
    wide: all("body, .jp-CodeCell pre, .jp-OutputArea-output, .jp-OutputArea-output div")
      .filter(one => one.scrollWidth > one.clientWidth + 1).map(one => one.textContent.slice(0, 200)),
  };
})()"""


def wrong_with_outputs(notebook: Any) -> Iterator[str]:
    """What is wrong with an executed notebook, beside the one that is stored."""
    stored = {cell["id"]: cell["outputs"] for cell in code_cells(json.loads(TUTORIAL.read_text("utf-8")))}
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if output["output_type"] == "error":
                yield f"cell {cell['id']}: {output['ename']}: {output['evalue']}"
            elif "data" in output and set(output["data"]) != RICH:
                yield f"cell {cell['id']} gives {sorted(output['data'])}, not {sorted(RICH)}"
        if settled(cell["outputs"]) != stored[cell["id"]]:
            yield f"cell {cell['id']} gives something else than is stored: python -m tests.notebook stores it anew"


def executed() -> Any:
    import nbformat
    from nbclient import NotebookClient

    # As a reader has it who has installed the library.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    notebook = nbformat.read(TUTORIAL, as_version=4)
    nbformat.validate(notebook)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": folder}}, kernel_name="python3"
        )
        return client.execute()


def rendered(notebook: Any, theme: str) -> str:
    from nbconvert import HTMLExporter

    page, _ = HTMLExporter(theme=theme).from_notebook_node(notebook, {"metadata": {"name": TUTORIAL.stem}})
    # They fetch MathJax and the like from the network, and nothing here needs them.
    return re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)


def wrong_in_browser(page: Path, theme: str, rich: int, cells: int, pictures: bool) -> Iterator[str]:
    with chromium.Chromium(dark=theme == "dark") as browser:
        browser.load(page)
        said = browser.value(LOOK)
        if pictures:
            for picture in browser.pictures(page.with_suffix("")):
                print(picture)
        complaints = browser.complaints
    print(f"{theme}: {said['cells']} cells, {said['rich']} of them rich, {said['pictures']} pictures")
    yield from (f"{theme}: the console says: {one}" for one in complaints)
    yield from (f"{theme}: a cell says: {one}" for one in said["errors"])
    yield from (f"{theme}: a picture is broken: {one}" for one in said["broken"])
    yield from (f"{theme}: too wide for the page: {one}" for one in said["wide"])
    if (said["cells"], said["rich"]) != (cells, rich):
        yield f"{theme}: there should be {cells} cells, {rich} of them rich"
    if not said["pictures"]:
        yield f"{theme}: there is no picture"
    if (said["ground"] >= LIGHT_FROM) != (theme == "light"):
        yield f"{theme}: the page is not {theme}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.browser.tutorial", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, help="a folder for the pages and pictures of them")
    arguments = parser.parse_args()
    missing = [name for name in ("nbclient", "nbconvert", "ipykernel") if importlib.util.find_spec(name) is None]
    missing += [] if chromium.find() else ["chromium"]
    if missing:
        print(f"not installed: {', '.join(missing)}: the tutorial is not looked at")
        return 3
    notebook = executed()
    wrong = list(wrong_with_outputs(notebook))
    cells = code_cells(notebook)
    rich = sum("text/html" in output.get("data", {}) for cell in cells for output in cell["outputs"])
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) if arguments.out is None else arguments.out
        out.mkdir(parents=True, exist_ok=True)
        for theme in ("light", "dark"):
            page = out / f"tutorial-{theme}.html"
            page.write_text(rendered(notebook, theme), "utf-8")
            wrong += wrong_in_browser(page, theme, rich, len(cells), arguments.out is not None)
    for one in wrong:
        print(f"wrong: {one}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
