"""What hostile servers answer: each pull ends in time, in bounded memory, and keeps nothing.

Rules: the servers are raw sockets on loopback, so that nothing but the client keeps to HTTP. Each test names the peer
and the cause that the error must name.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from artdag_fed import Federation, Limits, TransportError, pull
from artdag_fed.transports import http
from tests.hostile_servers import (
    DEADLINE,
    FETCHES,
    JSON,
    bundle,
    dripping,
    elsewhere,
    flooding,
    forever,
    in_time,
    silent,
)
from tests.http_servers import Script, Told, answering, head

SRC = Path(http.__file__).parents[2]

HAVES: dict[str, tuple[Script, str]] = {
    "says nothing": (silent, "the deadline of 0.6 s passed"),
    "drips": (dripping(head(kind=JSON), forever(b" ")), "the deadline of 0.6 s passed"),
    "floods": (flooding(head(kind=JSON), forever(b" " * 9999)), "its answer is longer than the 1,280 bytes"),
    "hangs up": (answering(head("Content-Length: 99", kind=JSON), b'{"digests"'), "bytes before the end"),
    "sends a bundle": (answering(head(), bundle()), "instead of application/json"),
    "speaks of something else": (
        answering(head(kind=JSON), json.dumps({"digests": {"c2": "0" * 64}}).encode()),
        "'c2' was not asked about",
    ),
    "has a wrong digest": (
        answering(head(kind=JSON), json.dumps({"digests": {"c1": "0" * 63 + "A"}}).encode()),
        "is no digest",
    ),
    "has a list": (answering(head(kind=JSON), b'{"digests":["c1"]}'), "digests must be an object"),
    "has a number": (answering(head(kind=JSON), b'{"digests":{"c1":1e999}}'), "it has a number in it"),
    "says it twice": (
        answering(head(kind=JSON), b'{"digests":{"c1":"' + b"0" * 64 + b'","c1":"' + b"1" * 64 + b'"}}'),
        "a key is there twice",
    ),
    "nests": (answering(head(kind=JSON), b"[" * 1200), "nested too deep|Expecting value"),
    "is not UTF-8": (answering(head(kind=JSON), b'{"digests":{"\xff":""}}'), "utf-8"),
    "is empty": (answering(head(kind=JSON), b""), "its answer cannot be read"),
    "redirects a question": (elsewhere("/v1/have", "302 Found"), "it answered 302"),
    "redirects a question to itself": (elsewhere("/v1/have", "307 Temporary"), "redirected more than 5 times"),
}


@pytest.mark.parametrize("name", FETCHES)
def test_a_hostile_server_fails_its_own_pull_in_time_with_an_error_that_names_it(name: str) -> None:
    script, kind, cause = FETCHES[name]
    # Where something else than the deadline ends it, a slow machine has the time to get there.
    deadline = DEADLINE if "deadline" in cause or name.startswith("drips") else 10
    bob = Federation()
    with Told(script) as server, in_time(deadline):
        fetch = http.fetcher({"mallory": server.url}, deadline=deadline, limits=Limits(records=20_000, bytes=1 << 24))
        with pytest.raises(kind, match=rf"(?s)fetching from 'mallory' \({server.url}\) failed: .*({cause})") as failed:
            pull(bob, fetch, "mallory", {"mallory"}.__contains__)
    assert len(bob) == 0
    assert len(str(failed.value)) < 500 and str(failed.value).isprintable()


def test_a_redirect_is_followed_five_times_and_no_more() -> None:
    with Told(elsewhere("/v1/bundle")) as server, pytest.raises(TransportError, match="more than 5 times"):
        list(http.fetcher({"mallory": server.url})("mallory"))
    assert len(server.requests) == 1 + 5


@pytest.mark.parametrize("name", HAVES)
def test_a_hostile_answer_to_have_is_an_error_in_time_that_names_the_url(name: str) -> None:
    script, cause = HAVES[name]
    with Told(script) as server, in_time(), pytest.raises(TransportError) as failed:
        http.have(server.url, ["c1"], deadline=DEADLINE)
    assert re.match(rf"asking {server.url} failed: .*({cause})", str(failed.value)), failed.value
    assert len(str(failed.value)) < 500 and str(failed.value).isprintable()


CHILD = """
import sys
from artdag_fed import Federation, FederationError, Limits, pull
from artdag_fed.transports import http

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024

limits = Limits(records=20_000, bytes=1 << 23, record_bytes=1 << 22, header_bytes=1 << 20)
url = sys.argv[1]
try:  # what is loaded on the way is not counted
    pull(Federation(), http.fetcher({"mallory": "http://127.0.0.1:1"}), "mallory", bool)
except FederationError:
    pass
before = peak()
try:
    pull(Federation(), http.fetcher({"mallory": url}, deadline=3, limits=limits), "mallory", lambda peer: True)
except FederationError as error:
    print(peak() - before, type(error).__name__, error)
"""

FLOODS = [
    "sends headers without end",
    "sends one header without end",
    "sends interim answers without end",
    "sends noise without end",
    "sends records without end",
    "sends a huge record",
    "says far too much",
    "claims a chunk too large",
    "sends a gzip bomb",
    "refuses at length",
    "drips headers",
]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory of a process from /proc")
@pytest.mark.parametrize("name", FLOODS)
def test_what_a_hostile_server_sends_takes_memory_within_the_limits(name: str) -> None:
    with Told(FETCHES[name][0]) as server:
        command = [sys.executable, "-c", CHILD, server.url]
        done = subprocess.run(command, env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, done.stderr
    grown, *error = done.stdout.split(maxsplit=2)
    print(f"{name}: {float(grown):.1f} MiB, {error}")
    assert float(grown) < 8 + 16, (
        done.stdout
    )  # the limit on payloads held in memory, and what a block and a header need
