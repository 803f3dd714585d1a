"""The story of the two studios over real HTTP: A serves from a process of its own, B is the process that tests.

Run as a command, this file is studio A:  python tests/test_studios_over_http.py FOLDER  prints its URL, and serves.
"""

from __future__ import annotations

import hmac
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest
from docs import two_studios as story

from artdag_fed import BundleError, Federation, Node, TransportError, invalidate, node, plan, pull, run
from artdag_fed import open as open_instance
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transports import http

ROOT = Path(__file__).resolve().parent.parent
FRAMES, STEPS = 2, 10  # a short film: a valley, two frames of four steps, the strip
RUSHES = 24  # other things that A has, of 1 MiB each: more than the buffers of a connection hold

TOKEN, KEY = "a-token-that-B-was-given", b"a key that both the studios hold"
A = {"studio-a"}.__contains__
VERIFY = hmac_verifier({"studio-a": KEY})


def film(look: str) -> Node:
    """The strip of the story, with fewer frames."""
    return node("strip@1", *story.strip(look).inputs[:FRAMES], columns=FRAMES)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: Any) -> None: ...


def studio_a(folder: Path) -> None:
    """Render the strip, then serve until somebody ends the process."""
    fed = open_instance(folder / "studio-a")
    done = run(fed, film("warm"), story.runner)
    for number in range(RUSHES):
        fed.cache[f"rushes-{number}"] = number.to_bytes(1) * (1 << 20)
    (folder / "strip-by-a.png").write_bytes(story.png(done.value))

    def authorize(token: str | None) -> bool:
        return token is not None and hmac.compare_digest(token, TOKEN)

    application = http.app(fed, "studio-a", sign=hmac_signer(KEY), authorize=authorize)
    with make_server("127.0.0.1", 0, application, Server, Quiet) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, subprocess.Popen[str]]]:
    """(url, folder, process) of studio A."""
    folder = tmp_path_factory.mktemp("studios")
    command = [sys.executable, __file__, str(folder)]
    environment = {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip(), folder, process
        finally:
            process.kill()


@pytest.fixture
def b(tmp_path: Path) -> Iterator[Federation]:
    """Studio B, on disk, with work of its own."""
    fed = run(open_instance(tmp_path / "studio-b"), story.leader(), story.runner).federation
    yield fed
    fed.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it


def test_b_gets_from_a_just_what_its_film_needs_and_computes_the_rest(served: Any, b: Federation) -> None:
    url, folder, _ = served
    own = set(b)

    def bring(fed: Federation, target: Node) -> Federation:
        offered = http.have(url, plan(fed, target).computed, token=TOKEN)
        needed = plan(fed, target, offered=offered).wanted
        fetch = http.fetcher({"studio-a": url}, cids=needed, tokens={"studio-a": TOKEN})
        return pull(fed, fetch, "studio-a", A, verify=VERIFY)

    # The strip itself is there: one record, and nothing to compute.
    b = bring(b, film("warm"))
    assert b.report.admitted == 1
    done = run(b, film("warm"), story.runner)
    assert done.computed == () and story.png(done.value) == (folder / "strip-by-a.png").read_bytes()

    # Another look: the frames before their last step come from A; that step and the strip are computed here.
    b = bring(b, film("moonlight"))
    assert b.report.admitted == FRAMES
    b = run(b, film("moonlight"), story.runner).federation
    assert b.report.admitted == FRAMES + 1

    # The rest as well; what is held already stays as it is.
    fetch = http.fetcher({"studio-a": url}, tokens={"studio-a": TOKEN})
    b = pull(b, fetch, "studio-a", A, verify=VERIFY)
    assert (b.report.admitted, b.report.unchanged) == (STEPS - 3 + RUSHES, 3)
    assert len(b.provenance) == STEPS + RUSHES and b.report.conflicts == 0

    # B no longer trusts A: what came from it goes, and what was built on it.
    b = invalidate(b, "studio-a", derived=True)
    assert b.report.dropped == STEPS + RUSHES + 3 and set(b) == own


def test_without_the_token_or_with_another_key_nothing_of_a_is_kept(served: Any, b: Federation) -> None:
    url, _, _ = served
    own = set(b)
    for tokens in ({}, {"studio-a": "another"}):
        with pytest.raises(TransportError, match=r"from 'studio-a' .* failed: it answered 401"):
            pull(b, http.fetcher({"studio-a": url}, tokens=tokens), "studio-a", A)
    other = hmac_verifier({"studio-a": b"a key that somebody else holds!!"})
    after = pull(b, http.fetcher({"studio-a": url}, tokens={"studio-a": TOKEN}), "studio-a", A, verify=other)
    assert after.report.rejected == {"forged": STEPS + RUSHES} and set(after) == own


def test_when_a_dies_half_way_b_keeps_nothing_of_that_pull_and_all_it_had(served: Any, b: Federation) -> None:
    url, _, process = served  # the last test of this file: A is gone afterwards
    own = set(b)
    fetch = http.fetcher({"studio-a": url}, tokens={"studio-a": TOKEN})

    def killing(peer: str) -> Iterator[Any]:
        for count, record in enumerate(fetch(peer)):
            if count == 0:
                process.kill()
                process.wait()
            yield record

    with pytest.raises((TransportError, BundleError), match=r"fetching from 'studio-a' \(http://.*\) failed"):
        pull(b, killing, "studio-a", A, verify=VERIFY)
    with pytest.raises(TransportError, match=r"fetching from 'studio-a' \(http://.*\) failed: ConnectionRefusedError"):
        pull(b, fetch, "studio-a", A, verify=VERIFY)
    assert set(b) == own


if __name__ == "__main__":
    studio_a(Path(sys.argv[1]))
