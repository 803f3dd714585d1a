"""The page of a served instance in a real browser: what it looks like there, and that hostile names stay names.

Rules: a real server on loopback, headless Chromium (left out, with the reason, where there is none), its own policy in
force. `PICTURES=folder` keeps what it looked like, to be looked at.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from wsgiref.types import WSGIApplication
from wsgiref.validate import validator

import pytest

from artdag_fed import Dag, Federation, Record, import_, node, run
from artdag_fed.transports import http
from artdag_fed.transports.http_listener import Listener
from tests.browser.chromium import Chromium, find
from tests.http_servers import running
from tests.test_drawing import HOSTILE, contrast
from tests.test_http_page import PAGE_TAGS

pytestmark = pytest.mark.skipif(find() is None, reason="no Chromium on the PATH: apt-get install chromium")

WIDTHS = (360, 1280)
ATTACKS = [
    *HOSTILE,
    "<img src=x onerror=window.ran=1>",
    "<svg/onload=window.ran=1>",
    "</title></style><script>window.ran=1</script>",
    "</code></pre><iframe srcdoc=x>",
    "' onmouseover='window.ran=1",
    "ЖЖЖЖ" * 20,
    "フレーム" * 15,
]
LOOK = """({
  wide: document.scrollingElement.scrollWidth, inner: innerWidth,
  tags: [...new Set([...document.querySelectorAll("*")].map(one => one.localName))],
  listeners: [...document.querySelectorAll("*")].flatMap(one => [...one.attributes].map(a => a.name))
    .filter(name => name.startsWith("on") || name == "href"),
  pictures: document.images.length, broken: [...document.images].filter(i => !i.complete || !i.naturalWidth).length,
  cut: [...document.images].filter(i => i.parentNode.scrollWidth > i.parentNode.clientWidth).length,
  ran: window.ran || 0, ink: getComputedStyle(document.body).color,
  ground: getComputedStyle(document.body).backgroundColor,
  marked: [...document.querySelectorAll("td span")].map(one => getComputedStyle(one).borderTopStyle),
  right: [...document.querySelectorAll("td+td:not(:empty)")].map(one => getComputedStyle(one).textAlign),
})"""


def peer(name: str) -> str:
    printable = "".join(c for c in name if c.isprintable()).strip()
    return printable.encode()[:255].decode(errors="ignore")


def studio() -> Federation:
    """An instance with something of everything."""
    source, sound = node("load@1", clip="a"), node("load@1", clip="b")
    records = [
        Record(source.cid, b"x" * 70_000, "bob", {"carol"}),
        Record(sound.cid, b"y" * 900, "dave@studio.example"),
    ]
    records += [Record(f"c{n}", n, f"peer-{n % 40}", {f"peer-{(n + 7) % 40}"}) for n in range(200)]
    fed = import_(Federation(), records, lambda name: True)
    return run(fed, Dag(node("mix@1", source, sound)), lambda op, inputs, params: 1.5).federation


@pytest.fixture(autouse=True)
def silent(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No answer breaks off: the validator finds nothing."""
    yield
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


@contextlib.contextmanager
def serving(application: WSGIApplication) -> Iterator[Listener]:
    """Our own server: it does not wait for the connections that a browser opens ahead and leaves idle."""
    with running(Listener(validator(application), "127.0.0.1", 0)) as server:
        yield server


def kept(browser: Chromium, name: str) -> None:
    if folder := os.environ.get("PICTURES"):
        browser.pictures(Path(folder) / name)


def hexed(colour: str) -> str:
    return "#" + "".join(f"{int(n):02x}" for n in re.findall(r"\d+", colour)[:3])


@pytest.mark.parametrize(("width", "dark"), list(product(WIDTHS, (False, True))))
def test_the_page_is_legible_in_both_colour_schemes_and_fits_the_screen(width: int, dark: bool) -> None:
    with serving(http.app(studio(), "alice")) as server, Chromium(width=width, dark=dark) as browser:
        browser.load(server.url)
        said = browser.value(LOOK)
        kept(browser, f"studio-{width}-{'dark' if dark else 'light'}")
        assert browser.complaints == []  # its policy has kept nothing from it
    assert said["inner"] == width and said["wide"] <= width
    assert (said["pictures"], said["broken"]) == (1, 0)
    assert width < 1000 or said["cut"] == 0  # on a narrow one it scrolls in its frame, at its size
    assert contrast(hexed(said["ink"]), hexed(said["ground"])) >= 7
    assert (contrast(hexed(said["ground"]), "#000000") < 2) == dark
    assert set(said["marked"]) == {"solid"} and set(said["right"]) == {"right"}  # the styles of the kit are in force


@pytest.mark.parametrize("width", WIDTHS)
def test_a_hostile_peer_makes_no_tag_on_the_page_runs_nothing_and_breaks_no_picture(width: int) -> None:
    names = list(map(peer, ATTACKS))
    fed = Federation()
    for n, name in enumerate(names):
        fed = import_(fed, [Record(f"c{n}", n, name), Record(f"d{n}", n, "bob", {name})], lambda name: True)
    with Chromium(width=width) as browser:
        for n, name in enumerate(names):
            # Each is once the one of which there is most, so that it is drawn; and the one who serves.
            several = [Record(f"e{n}-{m}", m, name, {f"of {name}"[:60]}) for m in range(n + 2)]
            fed = import_(fed, several, lambda name: True)
            with serving(http.app(fed, name)) as server:
                browser.load(server.url)
                said = browser.value(LOOK)
            assert set(said["tags"]) <= PAGE_TAGS and said["listeners"] == [] and said["ran"] == 0, name
            assert (said["pictures"], said["broken"]) == (1, 0), name
            assert said["wide"] <= width, name
        kept(browser, f"hostile-{width}")
        assert browser.complaints == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_numbers_beside_the_longest_names_are_on_the_screen(width: int) -> None:
    records = [Record(f"c{n}", n, f"{n} {'x' * 200}", {f"{n} {'y' * 200}"}) for n in range(9)]
    fed = import_(Federation(), records, lambda name: True)
    with serving(http.app(fed, "alice")) as server, Chromium(width=width) as browser:
        browser.load(server.url)
        ends = "[...document.querySelectorAll('td')].map(one => one.getBoundingClientRect().right)"
        assert max(browser.value(ends)) <= width


def test_the_page_is_printed_whole_on_few_sheets() -> None:
    with serving(http.app(studio(), "alice")) as server, Chromium(dark=True) as browser:
        browser.load(server.url)
        pdf = base64.b64decode(browser.ask("Page.printToPDF", printBackground=True)["data"])
    assert pdf.startswith(b"%PDF") and 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 4
    if folder := os.environ.get("PICTURES"):
        (Path(folder) / "studio.pdf").write_bytes(pdf)


def test_a_browser_that_has_no_token_is_told_so_and_sees_nothing() -> None:
    with serving(http.app(studio(), "alice", authorize=lambda token: False)) as server, Chromium() as browser:
        browser.load(server.url)
        text = browser.value("document.body.innerText")
    assert "a token that is valid here is needed" in text and "bob" not in text


def test_the_policy_stops_what_is_none_of_the_kits() -> None:
    with serving(http.app(studio(), "alice")) as server, Chromium() as browser:
        browser.load(server.url)
        script = """(() => { const one = document.createElement("div"); document.body.append(one);
          one.innerHTML = "<p style='position:fixed'>x</p><img src='/v1/bundle' onerror='window.ran=1'>";
          return [getComputedStyle(one.firstChild).position, window.ran || 0]; })()"""
        assert browser.value(script) == ["static", 0]
        assert browser.value("new Promise(done => setTimeout(() => done(window.ran || 0), 50))") == 0
        assert [word for word in ("style-src", "img-src") if any(word in text for text in browser.complaints)] == [
            "style-src",
            "img-src",
        ]
