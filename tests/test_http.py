"""An instance over HTTP: what the application answers, and what the client asks, sends and refuses.

Rules: the application is called directly, under wsgiref's validator, and by a real server on loopback where the client
is tested; no test leaves this machine. What hostile servers do is in `test_http_hostile.py`.
"""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults, shift_path_info
from wsgiref.validate import validator

import pytest

import artdag_fed
from artdag_fed import (
    BundleError,
    Codec,
    CodecError,
    Federation,
    InvalidName,
    Limits,
    Record,
    TransportError,
    export,
    import_,
    node,
    plan,
    pull,
    run,
)
from artdag_fed.bundle import read_bundle, write_bundle
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transport import digests_of, is_partial
from artdag_fed.transports import http, http_client, http_connection, http_server, http_wire
from tests.http_servers import Told, answering, head, serving

ALICE = {"alice"}.__contains__
HELD = {f"c{n}": {"number": n, "pixels": bytes(n)} for n in range(5)}


class Unwritable:
    """A result that no codec can carry."""


class Exploding:
    """The body of a request that must not be read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("the body was read")


def call(
    application: Any, method: str, path: str, body: bytes = b"", token: str | None = None, **environ: Any
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of one request, with the validator in between."""
    request: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    if body or method == "POST":
        request["CONTENT_LENGTH"] = str(len(body))
    if token is not None:
        request["HTTP_AUTHORIZATION"] = token
    request |= environ
    request |= {"QUERY_STRING": "", "SCRIPT_NAME": "/mounted"}
    setup_testing_defaults(request)
    told: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        told[:] = [int(status[:3]), dict(headers)]
        return written.append

    answer = validator(application)(request, start_response)  # type: ignore[arg-type]  # a start_response for tests
    try:
        written += answer
    finally:
        answer.close()  # type: ignore[attr-defined]  # the validator's iterator has it, and wants it called
    return told[0], told[1], b"".join(written)


def ask(*cids: str) -> bytes:
    return json.dumps({"cids": cids}).encode()


# --- the application --------------------------------------------------------------------------


def test_the_bundle_is_what_export_gives(make: Callable[[], Federation]) -> None:
    fed = make()
    fed.cache.update(HELD)
    expected = io.BytesIO()
    write_bundle(expected, export(fed, "alice"))
    status, headers, body = call(http.app(fed, "alice"), "GET", "/v1/bundle")
    assert (status, body) == (200, expected.getvalue())
    assert headers["Content-Type"] == "application/vnd.artdag-fed.bundle" and headers["Cache-Control"] == "no-store"


def test_head_says_what_get_would_without_reading_the_instance() -> None:
    def sign(statement: bytes) -> bytes:
        raise AssertionError("a record was read")

    status, headers, body = call(http.app(Federation(HELD), "alice", sign=sign), "HEAD", "/v1/bundle")
    assert (status, headers["Content-Type"], body) == (200, http_wire.BUNDLE_TYPE, b"")


def test_have_answers_with_the_digests_of_what_is_held(make: Callable[[], Federation]) -> None:
    fed = make()
    fed.cache.update(HELD)
    expected = {record.cid: record.digest for record in export(fed, "alice", ["c1", "c2"])}
    status, headers, body = call(http.app(fed, "alice"), "POST", "/v1/have", ask("c1", "nothing", "c2", "c1"))
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == {"digests": expected}


def test_a_bundle_of_some_has_those_that_are_held_once_in_the_order_of_the_question() -> None:
    body = call(http.app(Federation(HELD), "alice"), "POST", "/v1/bundle", ask("c3", "nothing", "c1", "c3"))[2]
    assert [record.cid for record in read_bundle(io.BytesIO(body))] == ["c3", "c1"]


def test_what_export_would_not_offer_is_neither_sent_nor_admitted_to() -> None:
    fed = Federation(dict(HELD), provenance={"c1": "mallory"}, lineage={"c2": frozenset({"mallory"})})
    application = http.app(fed, "alice", trusted=lambda peer: peer != "mallory")
    body = call(application, "GET", "/v1/bundle")[2]
    assert [record.cid for record in read_bundle(io.BytesIO(body))] == ["c0", "c3", "c4"]
    assert set(json.loads(call(application, "POST", "/v1/have", ask(*HELD))[2])["digests"]) == {"c0", "c3", "c4"}


def test_a_result_without_bytes_does_not_silence_the_others(caplog: pytest.LogCaptureFixture) -> None:
    application = http.app(Federation({"odd": Unwritable(), **HELD}), "alice", sign=hmac_signer(b"k" * 32))
    body = call(application, "GET", "/v1/bundle")[2]
    assert [record.cid for record in read_bundle(io.BytesIO(body))] == list(HELD)
    assert set(json.loads(call(application, "POST", "/v1/have", ask("odd", *HELD))[2])["digests"]) == set(HELD)
    assert "the result of odd is not offered" in caplog.text


def test_results_of_a_registered_type_are_decoded_by_the_codec_of_the_fetcher() -> None:
    codec = Codec().with_type("odd", Unwritable, lambda _: None, lambda _: Unwritable())
    fed = Federation(artdag_fed.MemoryCache({"c1": [Unwritable()]}, codec=codec))
    with serving(http.app(fed, "alice")) as server:
        [record] = http.fetcher({"alice": server.url}, codec=codec)("alice")
        assert type(record.result[0]) is Unwritable
        [record] = http.fetcher({"alice": server.url})("alice")
        with pytest.raises(CodecError):
            record.result  # noqa: B018  # decoded when it is asked for
        with pytest.raises(TypeError, match="codec must be a Codec, not str"):
            http.fetcher({"alice": server.url}, codec="json")  # type: ignore[arg-type]  # wrongly


def test_records_are_signed_as_they_are_sent() -> None:
    key = b"a key of alice and bob, no other"
    body = call(http.app(Federation(HELD), "alice", sign=hmac_signer(key)), "GET", "/v1/bundle")[2]
    bob = import_(Federation(), read_bundle(io.BytesIO(body)), ALICE, verify=hmac_verifier({"alice": key}))
    assert bob.report.admitted == len(HELD)


def started(application: Any) -> Any:
    """The body of the whole bundle, as a WSGI server has it; its `write()` is not to be used."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/bundle"}
    setup_testing_defaults(environ)
    return application(environ, lambda status, headers: None)


def test_a_large_bundle_is_sent_while_it_is_read() -> None:
    order: list[str] = []

    def sign(statement: bytes) -> bytes:
        order.append("read")
        return b"signature"

    fed = Federation({f"c{n}": bytes(400_000) for n in range(10)})
    for chunk in started(http.app(fed, "alice", sign=sign)):
        order += ["sent"] * (len(chunk) >= 400_000)
    ahead = [order[: at + 1].count("read") - order[: at + 1].count("sent") for at in range(len(order))]
    assert order.count("sent") == 10 and max(ahead) <= 2, order


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "//", 404),
        ("GET", "/favicon.ico", 404),
        ("GET", "/v1/bundle/", 404),
        ("GET", "/v2/bundle", 404),
        ("GET", "/v1/../v1/bundle", 404),
        ("POST", "/", 405),
        ("PUT", "/v1/bundle", 405),
        ("DELETE", "/v1/bundle", 405),
        ("GET", "/v1/have", 405),
        ("HEAD", "/v1/have", 405),
    ],
)
def test_other_paths_and_methods_are_refused(method: str, path: str, status: int) -> None:
    got, headers, body = call(http.app(Federation(HELD), "alice"), method, path)
    assert got == status and headers["Cache-Control"] == "no-store"
    assert body == b"" if method == "HEAD" else set(json.loads(body)) == {"error"}
    if status == 405:
        assert method not in headers["Allow"].split(", ") and ("POST" in headers["Allow"]) == (path != "/")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"cids",
        b"[]",
        b"null",
        b'"c1"',
        b"{}",
        b'{"cids":"c1"}',
        b'{"cids":null}',
        b'{"cids":[1]}',
        b'{"cids":[NaN]}',
        b'{"cids":[["c1"]]}',
        b'{"cids":[null]}',
        b'{"cids":[""]}',
        b'{"cids":["a b"]}',
        b'{"cids":["c1\\n"]}',
        b'{"cids":["\xff"]}',
        b'{"cids":["c1"],"more":[]}',
        b'{"cids":["c1"],"cids":["c2"]}',
        b'{"cids":["c1"]}{}',
        b'\xef\xbb\xbf{"cids":["c1"]}',
        b'{"cids":' + b"[" * 100_000,
        json.dumps({"cids": [f"c{n}" for n in range(http_wire.MOST_CIDS + 1)]}).encode(),
    ],
    ids=lambda body: body[:24].decode("latin-1"),
)
@pytest.mark.parametrize("path", ["/v1/have", "/v1/bundle"])
def test_a_question_that_is_none_is_a_bad_request(path: str, body: bytes) -> None:
    status, _, answer = call(http.app(Federation(HELD), "alice"), "POST", path, body)
    assert status == 400 and "the request cannot be read" in json.loads(answer)["error"] and len(answer) < 300


@pytest.mark.parametrize(
    ("length", "status"),
    [
        ("", 411),
        ("-1", 411),
        ("+3", 411),
        ("1_0", 411),
        ("٣", 411),
        ("9" * 5000, 411),
        (str(http_wire.MOST_REQUEST_BYTES + 1), 413),
        ("9" * 19, 413),
    ],
)
def test_a_body_without_its_length_or_with_too_much_of_it_is_not_read(length: str, status: int) -> None:
    application = http.app(Federation(HELD), "alice")
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/have", "CONTENT_LENGTH": length, "wsgi.input": Exploding()}
    told: list[str] = []
    list(application(environ, lambda *given: told.append(given[0])))  # type: ignore[arg-type,func-returns-value]  # as above
    assert told[0].startswith(str(status))


def test_a_body_that_ends_early_is_a_bad_request() -> None:
    status, _, body = call(http.app(Federation(HELD), "alice"), "POST", "/v1/have", ask("c1"), CONTENT_LENGTH="100")
    assert status == 400 and "before its Content-Length" in json.loads(body)["error"]


def test_the_longest_question_fits() -> None:
    cids = [f"{n:0128}" for n in range(http_wire.MOST_CIDS)]
    question = http_wire.asked(cids)
    assert len(question) <= http_wire.MOST_REQUEST_BYTES
    assert call(http.app(Federation(HELD), "alice"), "POST", "/v1/have", question)[0] == 200
    full = http_wire.digests(dict.fromkeys(cids, "0" * 64))
    assert len(full) <= http_wire.most_answer_bytes(len(cids))


# --- who may ask ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [False, None, 1, "yes", [True]])
def test_only_true_lets_a_request_pass(answer: object) -> None:
    application = http.app(Federation(HELD), "alice", authorize=lambda token: answer)  # type: ignore[arg-type,return-value]  # wrong on purpose
    status, headers, body = call(application, "GET", "/v1/bundle", token="Bearer s3cret")
    assert (status, headers["WWW-Authenticate"]) == (401, "Bearer") and b"c1" not in body


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("Bearer s3cret", "s3cret"),
        ("bearer  s3cret", "s3cret"),
        ("Bearer", None),
        ("Bearer two words", None),
        ('Bearer quoted"', None),
        ("Basic YTpi", None),
        ("s3cret", None),
    ],
)
def test_authorize_is_given_the_token_or_none(header: str | None, token: str | None) -> None:
    asked: list[str | None] = []

    def authorize(token: str | None) -> bool:
        asked.append(token)
        return True

    assert call(http.app(Federation(HELD), "alice", authorize=authorize), "GET", "/v1/bundle", token=header)[0] == 200
    assert asked == [token]


def test_nothing_is_read_of_the_body_of_a_stranger() -> None:
    application = http.app(Federation(HELD), "alice", authorize=lambda token: False)
    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/v1/have", "CONTENT_LENGTH": "9", "wsgi.input": Exploding()}
    told: list[str] = []
    list(application(environ, lambda *given: told.append(given[0])))  # type: ignore[arg-type,func-returns-value]  # as above
    assert told == ["401 Unauthorized"]


@pytest.mark.parametrize("broken", ["authorize", "trusted", "instance", "no instance"])
def test_what_goes_wrong_inside_lets_nobody_pass_and_is_told_to_the_log_alone(
    broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> Any:
        raise RuntimeError("the password is swordfish")

    held = Federation({"c1": 1}, provenance={"c1": "carol"})
    instance: Any = {"instance": fails, "no instance": lambda: HELD}.get(broken, held)
    predicates = {broken: fails} if broken in ("authorize", "trusted") else {}
    for method, path, body in (("GET", "/v1/bundle", b""), ("POST", "/v1/have", ask("c1"))):
        caplog.clear()
        status, headers, answer = call(http.app(instance, "alice", **predicates), method, path, body)
        assert status == 500 and headers["Cache-Control"] == "no-store" and set(json.loads(answer)) == {"error"}
        assert b"swordfish" not in answer and b"c1" not in answer
        assert caplog.records[-1].exc_info is not None and caplog.records[-1].levelno == logging.ERROR


def test_a_callable_gives_the_instance_for_each_request() -> None:
    now = [Federation({"c1": 1})]
    application = http.app(lambda: now[0], "alice")
    assert list(json.loads(call(application, "POST", "/v1/have", ask("c1", "c2"))[2])["digests"]) == ["c1"]
    now[0] = Federation({"c2": 2})
    assert list(json.loads(call(application, "POST", "/v1/have", ask("c1", "c2"))[2])["digests"]) == ["c2"]


def test_what_is_no_instance_no_name_or_no_callable_is_refused_when_the_application_is_made() -> None:
    with pytest.raises(TypeError, match="a Federation or a callable giving one, not dict"):
        http.app(HELD, "alice")  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(InvalidName):
        http.app(Federation(), "alice\n")
    for name in ("trusted", "sign", "authorize"):
        with pytest.raises(TypeError, match=f"{name} must be a callable"):
            http.app(Federation(), "alice", **{name: "alice"})  # type: ignore[arg-type]  # wrong on purpose


# --- the client -------------------------------------------------------------------------------


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


# --- tokens -----------------------------------------------------------------------------------


def test_a_token_is_sent_to_its_peer_and_a_wrong_one_is_in_no_message() -> None:
    application = http.app(Federation(HELD), "alice", authorize=lambda token: token == "s3cret+/=")
    with serving(application) as server:
        urls = {"alice": server.url}
        assert len(list(http.fetcher(urls, tokens={"alice": "s3cret+/=", "other": "\n"})("alice"))) == 5
        assert set(http.have(server.url, ["c1"], token="s3cret+/=")) == {"c1"}
        for tokens in ({}, {"alice": "swordfish"}, {"bob": "s3cret+/="}):
            with pytest.raises(TransportError, match=r"'alice'.* failed: it answered 401 'a token that is") as refused:
                list(http.fetcher(urls, tokens=tokens)("alice"))
            assert "swordfish" not in str(refused.value) + repr(http.fetcher(urls, tokens=tokens))


@pytest.mark.parametrize(
    "url",
    [
        "http://alice.example",
        "http://localhost.alice.example",
        "http://127.0.0.1.alice.example",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://192.168.0.1",
        "http://[::2]",
        "http://2130706433.example",
    ],
)
def test_a_token_does_not_travel_in_the_open(url: str) -> None:
    with pytest.raises(ValueError, match="would travel in the open: use https") as refused:
        http.fetcher({"alice": url}, tokens={"alice": "swordfish"})
    assert "swordfish" not in str(refused.value)
    with pytest.raises(ValueError, match="would travel in the open: use https"):
        http.have(url, ["c1"], token="swordfish")


@pytest.mark.parametrize(
    "url", ["https://alice.example", "http://127.0.0.1:8000", "http://127.9.9.9", "http://[::1]:1", "http://LOCALHOST"]
)
def test_a_token_may_travel_over_https_and_on_this_machine(url: str) -> None:
    assert "swordfish" not in repr(http.fetcher({"alice": url}, tokens={"alice": "swordfish"}))


@pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Evil: b", "a\n", "é", '"', "=", "a" * 5000])
def test_a_token_that_could_end_its_header_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="cannot be one: only A-Z a-z 0-9"):
        http.fetcher({"alice": "https://alice.example"}, tokens={"alice": token})
    with pytest.raises(TypeError, match="a token is a str, not bytes"):
        http.have("https://alice.example", ["c1"], token=token.encode())  # type: ignore[arg-type]  # wrong on purpose


def test_a_token_is_not_sent_where_localhost_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Told(answering(head())) as server:
        monkeypatch.setattr(socket.socket, "getpeername", lambda self: ("192.0.2.1", 80), raising=False)
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(TransportError, match="'localhost' is not this machine: a token is sent over https only"):
            list(http.fetcher({"alice": url}, tokens={"alice": "swordfish"})("alice"))
    assert not any(b"swordfish" in request for request in server.requests)


# --- redirects, names, TLS ----------------------------------------------------------------------


def redirecting(status: str, to: str) -> Callable[[Any, Any], Any]:
    """An application that has moved to `/new`, and says so in this way."""
    application = http.app(Federation(HELD), "alice", authorize=lambda token: token == "s3cret")

    def moved(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith("/new/"):
            shift_path_info(environ)
            return application(environ, start_response)
        location = to.format(host=environ["HTTP_HOST"], path=environ["PATH_INFO"])
        start_response(status, [("Location", location), ("Content-Type", "text/plain")])
        return [b"gone"]

    return moved


@pytest.mark.parametrize("to", ["/new{path}", "http://{host}/new{path}", "//{host}/new{path}", "../new{path}"])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_within_the_origin_is_followed_and_a_post_stays_one(status: str, to: str) -> None:
    with serving(redirecting(status, to)) as server:
        fetch = http.fetcher({"alice": server.url}, tokens={"alice": "s3cret"})
        assert len(list(fetch("alice"))) == len(HELD)
        if status[:3] in ("307", "308"):
            assert set(fetch.digests("alice", HELD)) == set(HELD)
        else:
            with pytest.raises(TransportError, match=f"it answered {status[:3]}"):
                fetch.digests("alice", HELD)


def test_a_name_that_does_not_exist_is_an_error_that_says_so() -> None:
    with pytest.raises(TransportError, match=r"'alice'.*the name 'no-such-name.invalid' was not found: gaierror"):
        list(http.fetcher({"alice": "http://no-such-name.invalid"}, deadline=20)("alice"))
    with pytest.raises(TransportError, match=r"was not found: Unicode"):
        list(http.fetcher({"alice": f"http://{'a' * 70}.invalid"}, deadline=20)("alice"))


def test_of_several_addresses_the_first_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(http.app(Federation(HELD), "alice")) as server, socket.create_server(("127.0.0.1", 0)) as dead:
        dead_port = dead.getsockname()[1]
        dead.close()
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*stream, ("127.0.0.1", dead_port)), (*stream, ("127.0.0.1", server.server_port))]
        monkeypatch.setattr(http_connection, "_addresses", lambda *_: found)
        assert set(http.have("http://localhost", HELD)) == set(HELD)
        monkeypatch.setattr(http_connection, "_addresses", lambda *_: [])
        with pytest.raises(TransportError, match="the name has no address"):
            http.have("http://localhost", HELD)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost that it signed itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path) + ".crt"]
    try:
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    path.write_bytes(path.read_bytes() + Path(str(path) + ".crt").read_bytes())
    return path


def test_a_certificate_is_checked_and_its_name_too(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    application = http.app(Federation(HELD), "alice", authorize=lambda token: token == "s3cret")
    with serving(application, context) as server:
        url = f"https://localhost:{server.server_port}"
        for asked in (url, url.replace("localhost", "127.0.0.1")):
            with pytest.raises(TransportError, match=r"'alice'.*SSLCertVerificationError.*verify failed"):
                list(http.fetcher({"alice": asked}, tokens={"alice": "s3cret"})("alice"))
        # Where the system trusts it, it is good for its own name alone.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate) + ".crt")
        assert len(list(http.fetcher({"alice": url}, tokens={"alice": "s3cret"})("alice"))) == len(HELD)
        with pytest.raises(TransportError, match=r"IP address mismatch|doesn't match"):
            list(http.fetcher({"alice": url.replace("localhost", "127.0.0.1")})("alice"))


def test_no_parameter_turns_the_check_of_certificates_off() -> None:
    source = Path(http_connection.__file__).read_text("utf-8")
    assert re.findall(r"ssl\.\w+", source) == ["ssl.create_default_context"] and "create_default_context()" in source


def test_importing_the_library_does_not_import_a_network(tmp_path: Path) -> None:
    source = Path(artdag_fed.__file__).parent.parent
    code = "import sys, artdag_fed; print(sorted({'socket', 'ssl', 'http.client'} & set(sys.modules)))"
    done = subprocess.run(
        ["python3", "-c", code], env={"PYTHONPATH": str(source)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
