"""Quorum between real instances on loopback: what goes over the road, signed and unsigned.

Rules: what went over the road is counted at the server, in requests and in bytes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from artdag_fed import Event, Federation, export, hmac_signer, pull, quorum
from artdag_fed.signing import hmac_verifier
from artdag_fed.transports import folder, http
from tests.http_servers import Serving, serving
from tests.quorums import KEYS, digest
from tests.roads import cids

# --- between real instances ---------------------------------------------------------------------


class Counting:
    """A WSGI application around another: which paths were asked for, and how many bytes the answers had."""

    def __init__(self, application: Any) -> None:
        self.application = application
        self.paths: list[str] = []
        self.sent = 0

    def __call__(self, environ: Any, start_response: Any) -> Iterator[bytes]:
        self.paths.append(environ["PATH_INFO"])
        body = self.application(environ, start_response)

        def counted() -> Iterator[bytes]:
            try:
                for chunk in body:
                    self.sent += len(chunk)
                    yield chunk
            finally:
                if hasattr(body, "close"):
                    body.close()

        return counted()


@contextlib.contextmanager
def three(sign: bool = False) -> Iterator[tuple[dict[str, Serving], dict[str, Counting]]]:
    """Three instances on loopback: all have c0 to c19 of 20 kB; carol has another c0."""
    with contextlib.ExitStack() as stack:
        servers, counts = {}, {}
        for name in ("alice", "bob", "carol"):
            held: dict[str, Any] = {f"c{n}": bytes([n]) * 20_000 for n in range(20)}
            if name == "carol":
                held["c0"] = "something else"
            signer = hmac_signer(KEYS[name]) if sign else None
            counts[name] = Counting(http.app(Federation(held), name, sign=signer))
            servers[name] = stack.enter_context(serving(counts[name]))
        yield servers, counts


def roads_to(servers: Mapping[str, Serving], fetcher: Callable[..., Any] = http.fetcher) -> dict[str, Any]:
    return {name: fetcher({name: server.url}) for name, server in servers.items()}


def test_over_http_the_bytes_come_once_and_the_others_are_asked_for_digests_alone(fed: Federation) -> None:
    events: list[Event] = []
    with three() as (servers, counts):
        fetch = quorum(roads_to(servers), 3, observe=events.append)
        fed = pull(fed, fetch, "alice", {"alice"}.__contains__)
        assert not [text for server in servers.values() for text in server.errors]
    assert set(fed) == {f"c{n}" for n in range(1, 20)} and set(fed.provenance.values()) == {"alice"}
    assert counts["alice"].paths == ["/v1/bundle"] and counts["alice"].sent > 400_000
    for other in ("bob", "carol"):
        assert counts[other].paths == ["/v1/have"] and counts[other].sent < 20 * 100
    held, offered = digest(bytes(20_000)), digest("something else")
    assert [(e.cid, e.peer, e.held, e.offered) for e in events] == [("c0", "carol", held, offered)]


def test_over_http_with_signatures_the_records_of_all_are_read_whole(fed: Federation) -> None:
    verify = hmac_verifier(KEYS)
    with three(sign=True) as (servers, counts):
        fed = pull(fed, quorum(roads_to(servers), 3, verify=verify), "alice", {"alice"}.__contains__, verify=verify)
    assert set(fed) == {f"c{n}" for n in range(1, 20)}
    for name in ("alice", "bob", "carol"):
        assert counts[name].paths == ["/v1/bundle"] and counts[name].sent > 380_000


def test_over_http_a_peer_that_is_gone_does_not_count(fed: Federation) -> None:
    events: list[Event] = []
    with three() as (servers, _):
        roads = roads_to(servers)
        with serving(http.app(Federation(), "dave")) as gone:
            roads["dave"] = http.fetcher({"dave": gone.url}, deadline=2)
        assert len(pull(fed, quorum(roads, 3, observe=events.append), "alice", {"alice"}.__contains__)) == 19
        assert [(event.kind, event.peer) for event in events][:1] == [("unheard", "dave")]
        assert list(quorum(roads, 4)("alice")) == []


def test_a_folder_an_instance_and_a_server_agree(tmp_path: Path, fed: Federation) -> None:
    held = Federation({"c1": b"same", "c2": b"same"})
    folder.publish(held, "bob", tmp_path)
    carol = Federation({"c1": b"same", "c2": b"other"})
    with serving(http.app(held, "alice")) as server:
        roads: dict[str, Any] = {
            "alice": http.fetcher({"alice": server.url}),
            "bob": folder.fetcher({"bob": tmp_path}),
            "carol": lambda peer: export(carol, peer),
        }
        for peer in ("alice", "bob"):
            assert cids(quorum(roads, 3)(peer)) == ["c1"] and cids(quorum(roads, 2)(peer)) == ["c1", "c2"]
        assert set(pull(fed, quorum(roads, 2), "carol", {"carol"}.__contains__)) == {"c1"}
