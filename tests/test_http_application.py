"""An instance over HTTP: what the application answers, and whom.

Rules: the application is called directly, under wsgiref's validator, and by a real server on loopback where the client
is tested with it; no test leaves this machine.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Codec, CodecError, Federation, InvalidName, export, import_
from artdag_fed.bundle import read_bundle, write_bundle
from artdag_fed.signing import hmac_signer, hmac_verifier
from artdag_fed.transports import http, http_wire
from tests.http_calls import ALICE, HELD, call, started
from tests.http_servers import serving


class Unwritable:
    """A result that no codec can carry."""


class Exploding:
    """The body of a request that must not be read."""

    def read(self, *_: object) -> bytes:
        raise AssertionError("the body was read")


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
