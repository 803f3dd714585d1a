"""In a real browser: hostile names make no tag, run nothing and break no picture, and a page is legible in both themes.

Rules: a page of ours is loaded by headless Chromium from a file; a script behind it says what the browser made of it.
Needs `chromium` (or Chrome) on the PATH, and is left out, with the reason, where there is none.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from artdag_fed.drawing import Box, Graph, Mark, Table, mermaid
from artdag_fed.drawing_page import page
from tests.hostile import named
from tests.test_drawing import HOSTILE, SHAPES, TAGS, contrast

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)

pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium on the PATH: apt-get install chromium")

ATTACKS = [
    *HOSTILE,
    "<img src=x onerror=window.ran=1>",
    "<svg/onload=window.ran=1>",
    "</title></style><script>window.ran=1</script>",
    "' onmouseover='window.ran=1",
    "javascript:window.ran=1",
]

QUIET = "<script>window.alert = () => { window.ran = 1; };</script>"  # which would wait for somebody to press a button
LOOK = """<script>
addEventListener("load", () => {
  const shapes = new Set(), broken = [];
  for (const img of document.images) {
    const [, data] = img.src.split(",");
    const bytes = Uint8Array.from(atob(data), c => c.charCodeAt(0));
    const inside = new DOMParser().parseFromString(new TextDecoder().decode(bytes), "image/svg+xml");
    for (const one of inside.querySelectorAll("*")) {
      shapes.add(one.localName);
      for (const a of one.attributes) if (/^on|href$/.test(a.name)) broken.push(a.name);
    }
    if (!img.complete || !img.naturalWidth) broken.push(img.alt);
  }
  const style = getComputedStyle(document.body);
  const frame = document.querySelector("iframe");
  const said = {
    tags: [...new Set([...document.querySelectorAll("*")].map(one => one.localName))],
    listeners: [...document.querySelectorAll("*")].flatMap(one => [...one.attributes].map(a => a.name))
      .filter(name => name.startsWith("on")),
    scripts: document.scripts.length, pictures: document.images.length, shapes: [...shapes], broken,
    ran: window.ran || 0, ink: style.color, ground: style.backgroundColor,
    narrow: frame && frame.contentDocument.documentElement.scrollWidth,
    text: document.body.innerText,
  };
  const out = document.createElement("pre");
  out.textContent = JSON.stringify(said);
  out.id = "said";
  document.body.append(out);
});
</script>"""


def browse(text: str, folder: Path, *, dark: bool = False) -> dict[str, Any]:
    """What the browser made of a page."""
    file = folder / "page.html"
    file.write_text(text.replace("<head>", f"<head>{QUIET}", 1) + LOOK, "utf-8")
    assert BROWSER is not None
    command = [
        *(BROWSER, "--headless", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"),
        *(["--no-sandbox"] if os.getuid() == 0 else []),  # there is none for root
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        *("--virtual-time-budget=5000", "--dump-dom", file.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    found = re.search(r'<pre id="said">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None, done.stderr[-2000:]
    said = json.loads(html.unescape(found[1]))
    assert isinstance(said, dict)
    return said


def displays(name: str) -> list[str]:
    """Everything that shows itself, with `name` wherever a name may stand."""
    return [value._repr_html_() for value in named(name)]


def test_hostile_names_make_no_tag_run_nothing_and_break_no_picture_in_a_browser(tmp_path: Path) -> None:
    shown = [text for name in ATTACKS for text in displays(name)]
    said = browse(f'<!doctype html><html><head><meta charset="utf-8"></head><body>{"".join(shown)}', tmp_path)
    assert set(said["tags"]) <= TAGS | {"script"} and said["scripts"] == 2  # which are ours
    assert said["listeners"] == said["broken"] == [] and said["ran"] == 0
    assert said["pictures"] == 4 * len(ATTACKS) and set(said["shapes"]) <= SHAPES
    assert "<img src=x onerror=window.ran=1>" in said["text"]  # as text


def test_a_hostile_name_in_a_mermaid_program_stays_text_where_it_is_put_into_a_page(tmp_path: Path) -> None:
    programs = [mermaid(Graph((Box("a", name, name, name),))) for name in ATTACKS]
    body = "".join(f'<pre class="mermaid">{program}</pre>' for program in programs)
    said = browse(f'<!doctype html><html><head><meta charset="utf-8"></head><body>{body}', tmp_path)
    assert set(said["tags"]) == {"html", "head", "meta", "body", "pre", "script"} and said["ran"] == 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_page_is_legible_in_both_colour_schemes_and_fits_a_narrow_screen(dark: bool, tmp_path: Path) -> None:
    wide = Graph(
        (Box("t", inputs=tuple("abcdefg")), *(Box(key, words="computed here", kind="here") for key in "abcdefg"))
    )
    rows = [(name, Mark("peer", name), 10**12) for name in ATTACKS]
    table = Table(("a", "b", "c"), rows)
    text = page(ATTACKS[0], [(name, [name, wide, table]) for name in ATTACKS])
    frame = f'<iframe style="width:320px;height:600px;border:0" srcdoc="{html.escape(text)}"></iframe>'
    # Our policy forbids scripts, the looking one too: it looks from outside.
    outer = text.replace('<meta http-equiv="Content-Security-Policy"', "<meta data-policy").replace("</body>", frame)
    said = browse(outer, tmp_path, dark=dark)
    assert set(said["tags"]) <= TAGS | {"script", "iframe"} and said["ran"] == 0 and said["broken"] == []
    ink, ground = (
        "#" + "".join(f"{int(n):02x}" for n in re.findall(r"\d+", said[name])[:3]) for name in ("ink", "ground")
    )
    assert contrast(ink, ground) >= 7
    assert (contrast(ground, "#000000") < 2) == dark
    assert said["narrow"] <= 320, "the page scrolls sideways as a whole; only what is wide in it should"
