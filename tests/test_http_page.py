"""The page at the root of a served instance: what it tells, to whom, of whom not, and how little it costs."""

from __future__ import annotations

import re
import shlex
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

import artdag_fed
from artdag_fed import Dag, DiskCache, Federation, Limits, Record, import_, node, run
from artdag_fed.__main__ import main
from artdag_fed.drawing_page import POLICY
from artdag_fed.transports import http
from artdag_fed.transports.http_page import DRAWN, MOST_PEERS, PAGE_HEADERS
from tests.http_calls import call
from tests.http_servers import serving
from tests.instances import everyone
from tests.test_displays import BYTES, MILLISECONDS, Guarded
from tests.test_drawing import HOSTILE, STRANGE, TAGS, Reader, pictures

PAGE_TAGS = TAGS | {"pre", "code"}
FRAME = node("frame@1", n=1)
FILM = node("film@1", FRAME, node("sound@1"))


def filled(fed: Federation) -> Federation:
    """Two computed here, one of them on bob's; three of bob, two on carol's; one of dave, on bob's and carol's."""
    records = [Record(FRAME.cid, 1, "bob"), Record("b2", 2, "bob", {"carol"}), Record("b3", 3, "bob", {"carol"})]
    fed = import_(fed, [*records, Record("d1", 1, "dave", {"bob", "carol"})], everyone)
    return run(fed, Dag(FILM), lambda op, inputs, params: len(inputs)).federation


def page(application: Any, **environ: Any) -> str:
    status, headers, body = call(application, "GET", "/", **environ)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert int(headers["Content-Length"]) == len(body)
    return body.decode()


def tables(text: str) -> list[list[list[str]]]:
    """The rows of each table, without its heading."""
    found = []
    for table in re.findall(r"<tbody>(.*?)</tbody>", text):
        rows = [re.findall(r"<td.*?>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
        found.append([[unescape(re.sub("<.*?>", "", cell)) for cell in row] for row in rows])
    return found


def codes(text: str) -> list[str]:
    return [unescape(code) for code in re.findall(r"<pre><code>(.*?)</code></pre>", text, re.DOTALL)]


# --- what it tells ----------------------------------------------------------------------------


def test_the_page_tells_what_is_held_from_whom_and_what_rests_on_whom(make: Callable[[], Federation]) -> None:
    text = page(http.app(filled(make()), "alice"))
    assert "All that this instance holds: 6 results, 2 computed here and 4 from 2 peers." in text
    whence, resting = tables(text)
    assert [row[:2] for row in whence] == [["computed here", "2"], ["from 'bob'", "3"], ["from 'dave'", "1"]]
    assert resting == [["'carol'", "0", "3", "3"], ["'bob'", "1", "1", "5"]]


def test_the_picture_tells_whose_results_were_made_of_whose() -> None:
    [(alt, _)] = pictures(page(http.app(filled(Federation()), "alice")))
    assert alt == (
        "What rests on whom. 1: results of 'bob'. 2: results of 'carol'. 3: from 'dave', 1 result; made from 2, 1. "
        "4: from 'bob', 2 of 3 results; made from 2. 5: computed here, 1 of 2 results; made from 1. "
        "Arrows go from whose results were used to what was made of them."
    )


def test_peers_that_rest_on_each_other_are_drawn_all_the_same() -> None:
    records = [Record("b1", 1, "bob", {"carol"}), Record("c1", 1, "carol", {"bob"})]
    [(alt, _)] = pictures(page(http.app(import_(Federation(), records, everyone), "alice")))
    assert "from 'carol', 1 result; made from" in alt and "from 'bob', 1 result; made from" in alt


def test_where_nothing_rests_on_anyone_there_is_no_picture_and_the_page_says_so() -> None:
    for fed in (Federation(), Federation({"c1": 1})):
        text = page(http.app(fed, "alice"))
        assert not pictures(text) and "None of these results is declared to rest on another peer" in text
        assert (
            "this instance holds: 0 results." in text or "holds: 1 result, 1 computed here and 0 from 0 peers." in text
        )


def test_sizes_and_times_are_told_where_they_are_known(tmp_path: Path) -> None:
    assert tables(page(http.app(Federation({"c1": 1}), "alice"))) == [[["computed here", "1"]]]
    fed = Federation(DiskCache(tmp_path / "alice"))

    def slow(op: str, inputs: tuple[Any, ...], params: Mapping[str, Any]) -> bytes:
        time.sleep(0.06)
        return bytes(1500)

    fed = run(fed, node("slow@1"), slow).federation
    text = page(http.app(fed, "alice"))
    assert tables(text) == [[["computed here", "1", "1.5 kB"]]] and "1 computed here in 0.1 s and 0 from" in text


@pytest.mark.parametrize("guarded", [True, False])
@pytest.mark.parametrize("signed", [True, False])
def test_the_page_says_in_whose_name_to_whom_and_whether_signed(guarded: bool, signed: bool) -> None:
    arguments: dict[str, Any] = {"authorize": everyone} if guarded else {}
    arguments |= {"sign": lambda statement: b"signature"} if signed else {}
    text = Reader(page(http.app(Federation({"c1": 1}), "alice", **arguments))).text
    assert "in the name of 'alice'" in text
    assert ("whoever has a token" in text) == ("YOUR-TOKEN" in text) == guarded
    assert ("everyone who can reach this address" in text) == (not guarded)
    assert ("signed with the key of 'alice'" in text) == ("verify=" in text) == signed


# --- who may see what -------------------------------------------------------------------------


def test_what_is_not_offered_is_neither_named_nor_counted_on_the_page(make: Callable[[], Federation]) -> None:
    text = page(http.app(filled(make()), "alice", trusted={"bob"}.__contains__))
    assert "3 results, 2 computed here and 1 from 1 peer. It vouches for all peers" in text
    assert [row[:2] for row in tables(text)[0]] == [["computed here", "2"], ["from 'bob'", "1"]]
    assert "carol" not in text and "dave" not in text and "All that this instance holds" not in text


def test_the_page_is_for_whom_authorize_lets_pass() -> None:
    application = http.app(filled(Federation()), "alice", authorize=lambda token: token == "s3cret")
    for path in ("/", ""):
        for token in (None, "Bearer other", "Basic YTpi"):
            status, headers, body = call(application, "GET", path, token=token)
            assert (status, headers["WWW-Authenticate"]) == (401, "Bearer") and b"bob" not in body
        assert call(application, "GET", path, token="Bearer s3cret")[0] == 200


def test_a_page_that_fails_inside_tells_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    def fails(peer: str) -> bool:
        raise RuntimeError("the password is swordfish")

    status, headers, body = call(http.app(filled(Federation()), "alice", trusted=fails), "GET", "/")
    assert (status, headers["Content-Type"]) == (500, "application/json") and b"swordfish" not in body
    assert caplog.records[-1].exc_info is not None


# --- how it is sent ---------------------------------------------------------------------------


def test_head_says_what_get_would_say() -> None:
    application = http.app(filled(Federation()), "alice")
    for path in ("/", ""):
        status, headers, body = call(application, "HEAD", path)
        assert (status, headers, body) == (*call(application, "GET", path)[:2], b"")


def test_the_page_forbids_a_browser_all_but_its_own_styles_and_pictures() -> None:
    text = page(http.app(filled(Federation()), "alice"))
    headers = call(http.app(Federation(), "alice"), "GET", "/")[1]
    policy = dict(part.strip().split(" ", 1) for part in headers["Content-Security-Policy"].split(";"))
    assert {name: value for name, value in policy.items() if name != "style-src"} == dict.fromkeys(
        ("default-src", "base-uri", "form-action", "frame-ancestors"), "'none'"
    ) | {"img-src": "data:"}
    assert re.fullmatch(r"'unsafe-hashes'( 'sha256-[\w+/]{43}=')+", policy["style-src"])
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer" and dict(PAGE_HEADERS).items() <= headers.items()
    assert {tag for tag, _ in Reader(text).tags} <= PAGE_TAGS
    assert not {"src", "href", "srcset", "action"} & {
        name for tag, attributes in Reader(text).tags for name in attributes if tag != "img"
    }


def test_the_policy_knows_every_style_that_the_page_has() -> None:
    text = page(http.app(filled(Federation()), "alice"))
    styles = [attributes["style"] for _, attributes in Reader(text).tags if "style" in attributes]
    styles += re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) > 10
    for style in styles:
        assert f"'sha256-{b64encode(sha256(style.encode()).digest()).decode()}'" in POLICY, style


def test_the_page_has_what_a_reader_needs_whatever_they_read_with() -> None:
    tags = Reader(page(http.app(filled(Federation()), "alice"))).tags
    names = [tag for tag, _ in tags]
    assert ("html", {"lang": "en"}) in tags and any(a.get("name") == "viewport" for _, a in tags)
    assert names.count("title") == names.count("h1") == 1 and names.count("h2") == 4
    assert names.count("table") == names.count("caption") == names.count("thead") == 2


@pytest.mark.parametrize("name", ["alice", 'Zoë\'s \\ "studio"', "a $(touch b); 'c", "-x", "a" + "\u0301" * 9])
def test_the_lines_to_fetch_with_do_fetch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(http.app(filled(Federation()), name)) as server, urlopen(server.url) as answer:
        python, *shell = codes(answer.read().decode())
        names: dict[str, Any] = {}
        exec(python, names)
        assert len(names["fed"]) == 6 and set(names["fed"].provenance.values()) == {name}
        names["fed"].cache.close()
        assert len(shell) == (name.isascii() and name != "-x")
        for line in shell:
            command, module, package, *arguments = shlex.split(line.replace(" results ", " others "))
            assert (command, module, package) == ("python", "-m", "artdag_fed")
            assert main(arguments) == 0
            assert len(artdag_fed.open("others")) == 6


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"HTTP_HOST": "alice.example"}, "http://alice.example/mounted"),
        ({"HTTP_HOST": "alice.example:8443", "wsgi.url_scheme": "https"}, "https://alice.example:8443/mounted"),
        ({"SERVER_NAME": "10.0.0.1", "SERVER_PORT": "81", "HTTP_HOST": ""}, "http://10.0.0.1:81/mounted"),
        ({"HTTP_HOST": "a'; import os; '"}, "https://the-address-of-this-page"),
        ({"HTTP_HOST": "<script>"}, "https://the-address-of-this-page"),
        ({"HTTP_HOST": "x" * 60_000}, "https://the-address-of-this-page"),
    ],
)
def test_the_url_is_where_the_instance_is_mounted_as_the_client_sees_it(environ: dict[str, str], url: str) -> None:
    assert f"peer, url = 'alice', '{url}'" in codes(page(http.app(Federation(), "alice"), **environ))[0]


# --- hostile names ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_peers_name_stays_text_on_the_page_whatever_it_is(name: str) -> None:
    peer = "".join(c for c in name if c.isprintable()).strip().encode()[:255].decode(errors="ignore")
    fed = import_(Federation(), [Record("c1", 1, peer, {f"of {peer}"[:60]}), Record("c2", 1, "bob", {peer})], everyone)
    text = page(http.app(fed, peer))
    reader = Reader(text)
    assert {tag for tag, _ in reader.tags} <= PAGE_TAGS
    assert not [a for _, attributes in reader.tags for a in attributes if a.startswith("on") or a == "href"]
    assert not any(character in text for character in STRANGE if character != "\n")
    assert not re.search("(?:\u0300){3}", text)
    assert len(pictures(text)) == 1 and len(text) < 20_000


# --- how little it costs ----------------------------------------------------------------------


def check_quick(fed: Federation) -> str:
    application = http.app(fed, "alice", trusted=everyone)
    began = time.process_time()
    text = page(application)
    milliseconds = 1000 * (time.process_time() - began)
    assert milliseconds < MILLISECONDS and len(text) < BYTES, (milliseconds, len(text))
    return text


def test_many_peers_are_counted_and_the_largest_listed() -> None:
    records = [Record(f"c{n}", n, f"peer-{n}", {f"peer-{n + 1}"}) for n in range(4000)]
    fed = import_(Federation(), [*records, Record("one-more", 1, "peer-7", {"peer-8"})], everyone)
    text = check_quick(fed)
    whence, resting = tables(text)
    assert len(whence) == MOST_PEERS + 2 and whence[1][:2] == ["from 'peer-7'", "2"]
    assert whence[-1] == ["and 3,980 more peers"] and resting[-1] == ["and 3,980 more peers"]
    [(alt, _)] = pictures(text)
    assert alt.count("results of") == DRAWN and "Left out: 3,9" in alt


def test_no_result_is_read_and_no_cache_is_walked_for_the_page() -> None:
    cache = Guarded()
    fed = filled(Federation(cache))
    cache.armed = True
    assert "6 results" in page(http.app(fed, "alice", trusted=everyone))


@pytest.mark.slow
def test_the_page_of_a_million_results_comes_in_a_moment(tmp_path: Path) -> None:
    fed = Federation(DiskCache(tmp_path / "many"))
    records = (Record(f"c{n}", n, f"peer-{n % 300}", {f"peer-{n // 300 % 30 + 300}"}) for n in range(1_000_000))
    check_quick(import_(fed, records, everyone, limits=Limits(records=1_000_000)))
