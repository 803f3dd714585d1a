"""What fails half way, a bundle, a fetch, a cache or a result, gets the error that is named for it and changes nothing.

Rules: over a dict, `open()` and `open(path)`; after each refusal the instance is looked at and is as it was before.
"""

# mypy: disable-error-code="arg-type"
# Calls with arguments of the wrong type are among what this file is about.

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any

import pytest

from artdag_fed import (
    BundleError,
    CodecError,
    Federation,
    FederationError,
    Limits,
    Record,
    RunError,
    StoreError,
    TransportError,
    export,
    forget,
    import_,
    invalidate,
    node,
    plan,
    pull,
    run,
)
from tests.bad_calls import CONTROL, LONG, N, one_line, record, works
from tests.instances import everyone

# --- bundles that break ---------------------------------------------------------------------------


def breaking(error: BaseException, after: int = 3) -> Iterator[Record]:
    for n in range(after):
        yield record(f"n{n}")
    raise error


BREAKS: dict[str, tuple[BaseException, type[Exception], str]] = {
    "the road": (ConnectionResetError(104, "reset"), TransportError, "broke off after 3 records"),
    "a timeout": (TimeoutError("too slow"), TransportError, "TimeoutError: too slow"),
    "its maker": (KeyError("field"), BundleError, "broke after 3 records: KeyError: 'field': nothing was kept"),
    "an error of ours": (CodecError("no value"), CodecError, "no value"),
    "a transport's": (TransportError("the peer said 503"), TransportError, "the peer said 503"),
    "hostile text": (ValueError(CONTROL + LONG), BundleError, r"ValueError: a\x1b[31m\r\n\u202eevilxxx"),
}


@pytest.mark.parametrize(("error", "becomes", "message"), BREAKS.values(), ids=BREAKS)
def test_a_bundle_that_breaks_half_way_changes_nothing(
    used: Federation, error: BaseException, becomes: type[Exception], message: str
) -> None:
    for call in (
        lambda: import_(used, breaking(error), everyone),
        lambda: pull(used, lambda peer: breaking(error), "bob", everyone),
    ):
        with pytest.raises(becomes) as caught:
            call()
        assert isinstance(caught.value, FederationError) and message in one_line(caught.value)
        assert caught.value is error or caught.value.__cause__ is error


def test_the_error_names_the_peer_that_was_asked(used: Federation) -> None:
    with pytest.raises(TransportError, match="the bundle from 'bob' broke off after 3 records"):
        pull(used, lambda peer: breaking(OSError("gone")), "bob", everyone)


def test_an_import_that_is_interrupted_changes_nothing(used: Federation) -> None:
    with pytest.raises(KeyboardInterrupt):
        import_(used, breaking(KeyboardInterrupt()), everyone)


@pytest.mark.parametrize("item", [None, "c1", {"cid": "c1"}, ("c1", 1, "bob"), b"bytes"])
def test_something_that_is_no_record_breaks_the_bundle(used: Federation, item: Any) -> None:
    with pytest.raises(BundleError, match=f"item 1 of the bundle is of type {type(item).__name__}, not a Record"):
        import_(used, [record(), item, record("n2")], everyone)


def test_what_is_no_iterable_is_no_bundle(used: Federation) -> None:
    with pytest.raises(BundleError, match="the bundle is of type NoneType, not an iterable of Records"):
        import_(used, None, everyone)
    with pytest.raises(BundleError, match="the bundle from 'bob' is of type int, not an iterable"):
        pull(used, lambda peer: 7, "bob", everyone)  # type: ignore[return-value]  # on purpose
    with pytest.raises(BundleError, match="put it in a list"):
        import_(used, record(), everyone)


FETCHES: dict[str, tuple[BaseException, type[Exception], str]] = {
    "refused": (
        ConnectionRefusedError("no route"),
        TransportError,
        "fetching from 'bob' failed: ConnectionRefusedError",
    ),
    "a bug": (ZeroDivisionError("division by zero"), TransportError, "ZeroDivisionError: division by zero"),
    "ours": (BundleError("broken"), BundleError, "broken as it is"),
    "hostile": (RuntimeError(CONTROL + LONG), TransportError, r"a\x1b[31m\r\n\u202eevil"),
}


@pytest.mark.parametrize(("error", "becomes", "message"), FETCHES.values(), ids=FETCHES)
def test_a_fetch_that_raises_is_a_transport_error_and_an_error_of_ours_as_it_is(
    used: Federation, error: BaseException, becomes: type[Exception], message: str
) -> None:
    def fetch(peer: str) -> Any:
        raise error

    with pytest.raises(becomes) as caught:
        pull(used, fetch, "bob", everyone)
    if caught.value is not error:
        assert message in one_line(caught.value) and caught.value.__cause__ is error


def test_a_fetch_with_the_wrong_signature_says_so(used: Federation) -> None:
    def fetch() -> list[Record]:
        return []

    with pytest.raises(TransportError, match=r"TypeError: .*positional argument"):
        pull(used, fetch, "bob", everyone)


def test_a_bundle_that_is_given_up_is_closed_at_once(fed: Federation) -> None:
    closed = []

    def endless() -> Iterator[Record]:
        try:
            for n in itertools.count():
                yield Record(f"c{n}", n, "alice")
        finally:
            closed.append(True)

    records = endless()
    with pytest.raises(BundleError, match="more than 5 records"):
        import_(fed, records, {"alice"}.__contains__, limits=Limits(records=5))
    assert closed == [True]


# --- a cache that fails ---------------------------------------------------------------------------


class Failing(dict[str, Any]):
    """A mapping that fails when it is written for the n-th time."""

    def __init__(self, left: int, *args: Any) -> None:
        super().__init__(*args)
        self.left = left

    def __setitem__(self, cid: str, result: Any) -> None:
        self.left -= 1
        if self.left < 0:
            self.left = 99
            raise OSError("disk full")
        super().__setitem__(cid, result)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_a_mapping_that_raises_while_it_is_written_has_what_was_written_taken_out_again(left: int) -> None:
    results: MutableMapping[str, Any] = Failing(left, {"mine": "local"})
    fed = Federation(results)
    with pytest.raises(OSError, match="disk full"):
        import_(fed, [record(f"n{n}") for n in range(3)], everyone)
    assert (dict(results), dict(import_(fed, [], everyone).provenance)) == ({"mine": "local"}, {})
    assert import_(fed, [record(f"n{n}") for n in range(3)], everyone).report.admitted == 3


def test_a_mapping_that_raises_while_a_result_is_replaced_has_the_old_one_put_back() -> None:
    results = Failing(99)
    fed = import_(Federation(results), [Record(N.cid, "theirs", "alice")], everyone)
    results.left = 0
    with pytest.raises(OSError, match="disk full"):
        fed.cache[N.cid] = "mine"
    now = import_(fed, [], everyone)
    assert (now.cache[N.cid], now.provenance) == ("theirs", {N.cid: "alice"})


def test_a_closed_durable_instance_says_so(durable: Federation) -> None:
    durable.cache["c1"] = 1
    bundle = export(durable, "me")
    durable.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it
    calls: list[Callable[[], Any]] = [
        lambda: list(bundle),
        lambda: import_(durable, [record()], everyone),
        lambda: invalidate(durable, "bob"),
        lambda: forget(durable, ["c1"]),
        lambda: run(durable, N, works),
        lambda: plan(durable, N),
    ]
    for call in calls:
        with pytest.raises(StoreError, match="was closed: open it again"):
            call()


# --- results that cannot be kept ------------------------------------------------------------------


def test_a_result_that_cannot_be_encoded_is_a_run_error_on_disk(durable: Federation) -> None:
    with pytest.raises(RunError, match=r"'step@1' gave a result that cannot be kept: CodecError: .*object") as caught:
        run(durable, N, lambda op, inputs, params: [object()])
    assert isinstance(caught.value.__cause__, CodecError) and (caught.value.cid, caught.value.op) == (N.cid, "step@1")
    one_line(caught.value)
    assert len(durable) == 0


def test_a_result_that_cannot_be_encoded_is_fine_in_memory() -> None:
    thing = object()
    done = run(Federation({}), node("top@1", N), lambda op, inputs, params: inputs[0] if inputs else thing)
    assert done.value is thing and len(done.federation) == 2


def test_signing_what_has_no_bytes_is_a_codec_error_when_it_is_read() -> None:
    bundle = export(Federation({"c1": object()}), "me", sign=lambda body: b"seal")
    with pytest.raises(CodecError):
        list(bundle)
