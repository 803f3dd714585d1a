"""An instance over HTTP: what the client asks and reads.

Rules: a real server on loopback answers; no test leaves this machine. What hostile servers do is in
`test_http_hostile_answers.py` and `test_http_hostile_delays.py`.
"""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote
from wsgiref.util import shift_path_info

import pytest

from artdag_fed import (
    BundleError,
    Federation,
    InvalidName,
    Limits,
    Record,
    TransportError,
    export,
    node,
    plan,
    pull,
    run,
)
from artdag_fed.bundle import write_bundle
from artdag_fed.transport import digests_of, is_partial
from artdag_fed.transports import http, http_client, http_server
from tests.http_calls import ALICE, HELD, started
from tests.http_servers import Told, answering, head, serving


def test_what_a_server_offers_is_pulled(make: Callable[[], Federation]) -> None:
    alice = make()
    alice.cache.update(HELD)
    before = threading.active_count()
    with serving(http.app(alice, "alice")) as server:
        bob = pull(make(), http.fetcher({"alice": server.url}), "alice", ALICE)
    assert bob.report.admitted == len(HELD) and set(bob.provenance.values()) == {"alice"}
    assert {cid: bob.cache[cid] for cid in bob} == HELD
    assert server.errors == [] and threading.active_count() == before


def test_two_round_trips_fetch_just_what_a_run_needs(runner: Any) -> None:
    middle = node("add@1", node("add@1", n=1), n=2)
    target = node("add@1", middle, n=3)
    alice = run(Federation({"unrelated": 1}), middle, runner).federation
    bob = Federation()
    with serving(http.app(alice, "alice")) as server:
        offered = http.have(server.url, plan(bob, target).computed)
        wanted = plan(bob, target, offered=offered).wanted
        bob = pull(bob, http.fetcher({"alice": server.url}, cids=wanted), "alice", ALICE)
    assert wanted == (middle.cid,) and set(bob) == {middle.cid}
    done = run(bob, target, runner)
    assert (done.value, done.computed) == (6, (target.cid,))


def test_have_tells_the_digests_of_what_is_offered() -> None:
    alice = Federation(HELD)
    with serving(http.app(alice, "alice")) as server:
        found = http.have(server.url + "/", ["c1", "nothing", "c1"])
        assert http.have(server.url, []) == {}
    assert found == {record.cid: record.digest for record in export(alice, "alice", ["c1"])}


def test_more_cids_than_one_request_may_have_are_asked_for_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[str] = []
    application = http.app(Federation(HELD), "alice")

    def counted(environ: Any, start_response: Any) -> Any:
        requests.append(environ["PATH_INFO"])
        return application(environ, start_response)

    monkeypatch.setattr(http_client, "MOST_CIDS", 2)
    with serving(counted) as server:
        assert set(http.have(server.url, HELD)) == set(HELD)
        assert [record.cid for record in http.fetcher({"alice": server.url}, cids=HELD)("alice")] == list(HELD)
    assert requests == ["/v1/have"] * 3 + ["/v1/bundle"] * 3


def test_a_fetch_says_whether_it_is_partial_and_which_digests_a_peer_offers() -> None:
    with serving(http.app(Federation(HELD), "alice")) as server:
        whole, some = http.fetcher({"alice": server.url}), http.fetcher({"alice": server.url}, cids=["c1"])
        digests = digests_of(whole)
        assert digests is not None and set(digests("alice", ["c1", "c9"])) == {"c1"}
        assert (is_partial(whole), is_partial(some)) == (False, True)
        assert [record.cid for record in some("alice")] == ["c1"]
        assert list(http.fetcher({"alice": server.url}, cids=[])("alice")) == []  # nothing to ask for


def test_nothing_is_asked_before_the_records_are_read() -> None:
    with Told(answering(head(), b"artdag-fed bundle v1\n")) as server:
        records = http.fetcher({"alice": server.url})("alice")
        records.close()
        assert server.requests == []


@pytest.mark.parametrize("how", ["closed", "abandoned", "refused"])
def test_the_connection_is_closed_when_the_reader_stops(how: str) -> None:
    stream = io.BytesIO()
    write_bundle(stream, export(Federation(HELD), "alice"))

    def script(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(head() + stream.getvalue()[:-10])
        while connection.recv(1000):  # until the client hangs up
            pass

    with Told(script) as server:
        fetch = http.fetcher({"alice": server.url}, limits=Limits(records=3 if how == "refused" else 10))
        records = fetch("alice")
        if how == "refused":
            with pytest.raises(BundleError):
                list(records)
        else:
            assert next(records).cid == "c0"
            assert not server.closed.wait(0.05)
        if how == "closed":
            records.close()
        elif how == "abandoned":
            del records  # a socket left open would also be a ResourceWarning, and so an error
        assert server.closed.wait(4)


def test_a_server_that_fails_on_the_way_leaves_a_bundle_without_its_trailer() -> None:
    signed: list[bytes] = []

    def sign(statement: bytes) -> bytes:
        signed.append(statement)
        if len(signed) == 4:
            raise RuntimeError("the key was taken away")
        return b"signature"

    alice = Federation({f"c{n}": bytes(400_000) for n in range(10)})
    bob = Federation()
    cut_off = r"fetching from 'alice' \(http://.*\) failed: the bundle is cut off"
    with serving(http.app(alice, "alice", sign=sign)) as server, pytest.raises(BundleError, match=cut_off):
        pull(bob, http.fetcher({"alice": server.url}), "alice", ALICE)
    assert len(bob) == 0 and any("the key was taken away" in text for text in server.errors)


def test_a_client_that_hangs_up_has_the_reading_closed() -> None:
    records = iter([Record("c1", bytes(400_000), "alice"), Record("c2", 2, "alice")])
    closed: list[str] = []

    def reading() -> Any:
        try:
            yield from records
        finally:
            closed.append("closed")

    read = reading()
    body: Any = http_server._sent(read)
    assert next(body) == b"artdag-fed bundle v1\n" and next(body)
    body.close()
    assert closed == ["closed"] and next(read, None) is None
    unbegun: Any = started(http.app(Federation(HELD), "alice"))
    unbegun.close()
    assert list(unbegun) == []


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_how_the_length_of_a_bundle_is_told_does_not_matter(size: int) -> None:
    stream = io.BytesIO()
    write_bundle(stream, export(Federation(HELD), "alice"))
    whole = stream.getvalue()
    chunks = [whole[at : at + size] for at in range(0, len(whole), size)]
    chunked = b"".join(b"%x;of=alice\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    for script in (
        answering(b"HTTP/1.1 100 Continue\r\n\r\n", head("Transfer-Encoding: chunked"), chunked, b"0\r\nX: y\r\n\r\n"),
        answering(head(f"Content-Length: {len(whole)}", "Content-Encoding: identity"), *chunks),
        answering(head(), *chunks),
    ):
        with Told(script) as server:
            assert len(list(http.fetcher({"alice": server.url})("alice"))) == len(HELD)


def test_a_bundle_over_a_limit_names_the_peer() -> None:
    with serving(http.app(Federation(HELD), "alice")) as server:
        fetch = http.fetcher({"alice": server.url}, limits=Limits(records=2))
        with pytest.raises(BundleError, match=r"from 'alice' \(.*\) failed: .*Limits.records"):
            list(fetch("alice"))


def test_an_instance_may_be_mounted_at_a_path() -> None:
    application = http.app(Federation(HELD), "alice")

    def mounted(environ: Any, start_response: Any) -> Any:
        assert shift_path_info(environ) == "results" and shift_path_info(environ) == "for bob"
        return application(environ, start_response)

    with serving(mounted) as server:
        url = f"{server.url}/results/{quote('for bob')}"
        assert len(list(http.fetcher({"alice": url})("alice"))) == len(
            list(http.fetcher({"alice": url + "/"})("alice"))
        )


@pytest.mark.parametrize("base", ["", "/", "/results", "/results/"])
def test_a_slash_at_the_end_of_a_url_makes_no_difference(base: str) -> None:
    with Told(answering(head(kind="application/json"), b'{"digests":{}}')) as server:
        http.have(server.url + base, ["c1"])
    assert server.requests[0].startswith(b"POST %s/v1/have HTTP/1.1\r\n" % base.rstrip("/").encode())


def test_a_peer_without_a_url_is_an_error_that_names_it() -> None:
    with pytest.raises(TransportError, match="'carol' failed: no URL was given for it, only for 'alice'"):
        http.fetcher({"alice": "http://127.0.0.1:1"})("carol")


def test_a_peer_that_is_not_there_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(TransportError, match=rf"fetching from 'alice' \({url}\) failed: ConnectionRefusedError"):
        pull(Federation(), http.fetcher({"alice": url}), "alice", ALICE)
    with pytest.raises(TransportError, match=rf"asking {url} failed: ConnectionRefusedError"):
        http.have(url, ["c1"])
    with pytest.raises(TransportError, match=rf"asking 'alice' \({url}\) failed: ConnectionRefusedError"):
        http.fetcher({"alice": url}).digests("alice", ["c1"])


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with serving(http.app(Federation(HELD), "alice")) as server:
        assert set(http.have(server.url, HELD)) == set(HELD)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("ftp://alice.example/", "only http and https"),
        ("data:,x", "only http and https"),
        ("alice.example", "only http and https"),
        ("", "only http and https"),
        ("//alice.example", "only http and https"),
        ("http://", "no host"),
        ("http://:80", "no host"),
        ("http://alice.example:0", "no host and port"),
        ("http://alice.example:99999", "ort"),
        ("http://alice.example:eighty", "ort"),
        ("http://[::1", "IPv6"),
        ("http://alice@alice.example", "a user in it"),
        ("http://alice:swordfish@alice.example", "a user in it"),
        ("http://alice.example?x", "query or a fragment"),
        ("http://alice.example#x", "query or a fragment"),
        ("http://alice.example/a b", "plain ASCII"),
        ("http://alice.example/\r\nX: y", "plain ASCII"),
        ("http://alice.example/\tx", "plain ASCII"),
        ("ht\ntp://alice.example", "plain ASCII"),
        ("http://alice.example\\@mallory.example", "plain ASCII"),
        ("http://älice.example", "plain ASCII"),
        (" http://alice.example", "plain ASCII"),
    ],
)
def test_what_is_no_url_of_an_instance_is_refused_when_the_fetcher_is_made(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        http.fetcher({"alice": url})
    assert "swordfish" not in str(refused.value)
    with pytest.raises(ValueError, match=why):
        http.have(url, ["c1"])


@pytest.mark.parametrize("deadline", [0, -1, float("inf"), float("nan")])
def test_a_deadline_is_a_positive_finite_number(deadline: float) -> None:
    with pytest.raises(ValueError, match="more than 0 seconds and finite"):
        http.fetcher({}, deadline=deadline)
    for wrong in ("5", True, None):
        with pytest.raises(TypeError, match="must be a number of seconds"):
            http.have("http://127.0.0.1", ["c1"], deadline=wrong)  # type: ignore[arg-type]  # wrong on purpose


def test_arguments_of_a_wrong_type_or_name_are_refused_when_the_fetcher_is_made() -> None:
    wrong: Any
    for wrong in ("http://alice.example", [("alice", "http://alice.example")]):
        with pytest.raises(TypeError, match="urls must be a mapping by peer"):
            http.fetcher(wrong)
    with pytest.raises(TypeError, match="tokens must be a mapping by peer, not str"):
        http.fetcher({}, tokens=wrong_text())
    with pytest.raises(TypeError, match="a URL is a str, not bytes"):
        http.fetcher({"alice": wrong_bytes()})
    with pytest.raises(TypeError, match="limits must be a Limits"):
        http.fetcher({}, limits=wrong_text())
    with pytest.raises(TypeError, match="cids must be several ids"):
        http.fetcher({}, cids="c1")
    with pytest.raises(ValueError, match="urls is empty"):
        http.fetcher({})
    with pytest.raises(InvalidName):
        http.fetcher({"alice ": "http://alice.example"})
    with pytest.raises(InvalidName):
        http.have("http://alice.example", ["no cid"])


def wrong_text() -> Any:
    return "s3cret"


def wrong_bytes() -> Any:
    return b"http://alice.example"
