"""The one gate: which records pass, why the others do not, and in which order it is found out.

Rules: the gate is asked through `import_` and `pull`, over a dict, `open()` and `open(path)`, since that is how peers
meet it; a record that is wrong in several ways has the first reason of the order.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest

import artdag_fed
from artdag_fed import Codec, Federation, Limits, Record, export, import_, node, pull
from artdag_fed.events import REASONS
from artdag_fed.record import statement
from tests.instances import everyone

N = node("step@1")


def seal(claimed: str, body: bytes) -> bytes:
    """A toy signature that holds for one peer and one statement."""
    return hashlib.sha256(claimed.encode() + b"'s secret" + body).digest()


def sealed(peer: str, body: bytes, signature: bytes) -> bool:
    return signature == seal(peer, body)


def signed(record: Record, by: str | None = None) -> Record:
    return record.signed(lambda body: seal(record.peer if by is None else by, body))


def encoded(cid: str, result: Any, peer: str, **more: Any) -> Record:
    payload = Codec().encode(result)
    digest = more.pop("digest", hashlib.sha256(payload).hexdigest())
    return Record.encoded(cid, more.pop("payload", payload), digest, peer, **more)


def rejections(fed: Federation, *records: Record, trusted: Any = everyone, **more: Any) -> dict[str, int]:
    return dict(import_(fed, records, trusted, **more).report.rejected)


# --- reasons ------------------------------------------------------------------------------------


def malformed() -> list[Any]:
    frozen = frozenset
    several = {
        "the cid is empty": Record("", 1, "alice"),
        "the cid has a space": Record("c 1", 1, "alice"),
        "the cid is too long": Record("c" * 129, 1, "alice"),
        "the cid ends with a line end": Record("c1\n", 1, "alice"),
        "the cid is not ASCII": Record("ｃ1", 1, "alice"),
        "the cid is no text": Record(1, 1, "alice"),  # type: ignore[arg-type]  # on purpose, as all below
        "the peer is empty": Record("c1", 1, ""),
        "the peer has white space at its end": Record("c1", 1, "alice "),
        "the peer has a line end": Record("c1", 1, "alice\nby bob"),
        "the peer has a bidi override": Record("c1", 1, "al\u202eice"),
        "the peer has a lone surrogate": Record("c1", 1, "al\ud800ice"),
        "the peer is too long": Record("c1", 1, "é" * 128),
        "the peer is no text": Record("c1", 1, None),  # type: ignore[arg-type]
        "the peer is unhashable": Record("c1", 1, ["alice"]),  # type: ignore[arg-type]
        "the lineage names its own peer": Record("c1", 1, "alice", {"bob", "alice"}),
        "the lineage names no peer": Record("c1", 1, "alice", {"bob", ""}),
        "the lineage holds no text": Record("c1", 1, "alice", {7}),  # type: ignore[arg-type]
        "the lineage is no frozenset": encoded("c1", 1, "alice", lineage=["bob"]),
        "the recipe is no bytes": Record("c1", 1, "alice", frozen(), "recipe"),  # type: ignore[arg-type]
        "the signature is no bytes": Record("c1", 1, "alice", frozen(), b"", None),  # type: ignore[arg-type]
        "the payload is no bytes": encoded("c1", 1, "alice", payload=bytearray(b"J1")),
        "the payload is missing": encoded("c1", 1, "alice", payload=None, digest=""),
        "the payload is no bytes and its digest is empty": encoded("c1", 1, "a", payload=bytearray(b"J1"), digest=""),
    }
    return [pytest.param(record, id=name) for name, record in several.items()]


@pytest.mark.parametrize("record", malformed())
def test_a_malformed_record_is_rejected_and_the_rest_goes_on(fed: Federation, record: Record) -> None:
    fed = import_(fed, [record, Record("ok", 1, "alice")], everyone)
    assert (fed.report.rejected, list(fed)) == ({"malformed": 1}, ["ok"])


def test_a_record_over_a_limit_for_one_record_is_malformed(fed: Federation) -> None:
    limits = Limits(record_bytes=100, recipe_bytes=100, lineage=2, signature_bytes=100)
    large, recipe = Record("c1", "x" * 100, "alice"), Record("c2", 1, "alice", frozenset(), b"r" * 101)
    resting = Record("c3", 1, "alice", {"b", "c", "d"})
    signed = Record("c6", 1, "alice", signature=b"s" * 101)
    just = [Record("c4", "x" * 97, "alice"), Record("c5", 1, "alice", {"b", "c"}, signature=b"s" * 100)]
    assert rejections(fed, large, recipe, resting, signed, *just, limits=limits) == {"malformed": 4}
    assert set(fed) == {"c4", "c5"}


def test_a_payload_that_its_digest_does_not_name_is_corrupt(fed: Federation) -> None:
    flipped = encoded("c1", "x", "alice", payload=b'J"y"')
    shouted = encoded("c2", "x", "alice", digest=hashlib.sha256(b'J"x"').hexdigest().upper())
    assert rejections(fed, flipped, shouted) == {"corrupt": 2}
    assert len(fed) == 0


def test_a_recipe_that_its_cid_is_not_the_hash_of_is_rejected(fed: Federation) -> None:
    other = Record(node("other@1").cid, 1, "alice", frozenset(), N.recipe)
    assert rejections(fed, other, Record(N.cid, 1, "alice", frozenset(), N.recipe)) == {"recipe": 1}
    assert list(fed) == [N.cid]


def test_a_record_without_a_recipe_passes_whatever_its_cid_looks_like(fed: Federation) -> None:
    assert rejections(fed, Record("job:2024-05.1_x", 1, "alice")) == {}


def test_trusted_lineage_is_asked_about_everyone_that_a_record_rests_on(fed: Federation) -> None:
    bundle = [Record("c1", 1, "alice"), Record("c2", 2, "alice", {"bob"}), Record("c3", 3, "alice", {"bob", "mallory"})]
    assert rejections(fed, *bundle, trusted_lineage=lambda peer: peer != "mallory") == {"lineage": 1}
    assert set(fed) == {"c1", "c2"}


# --- verify -------------------------------------------------------------------------------------


def test_with_verify_only_what_its_peer_signed_counts(make: Callable[[], Federation]) -> None:
    alice = make()
    alice.cache["c1"] = "x"
    bundle = list(export(alice, "alice", sign=lambda body: seal("alice", body)))
    bundle += [Record("c2", 1, "alice"), signed(Record("c3", 1, "alice"), by="mallory")]
    fed = import_(make(), bundle, everyone, verify=sealed)
    assert (list(fed), fed.report.rejected) == (["c1"], {"unsigned": 1, "forged": 1})


def test_pull_with_verify_takes_records_of_others_than_the_one_that_was_asked(fed: Federation) -> None:
    bundle = [signed(Record("c1", 1, "bob")), Record("c2", 1, "alice")]
    fed = pull(fed, lambda peer: bundle, "alice", everyone, verify=sealed)
    assert (dict(fed.provenance), fed.report.rejected) == ({"c1": "bob"}, {"unsigned": 1})


def test_verify_is_given_the_peer_the_statement_of_what_is_stored_and_the_signature(fed: Federation) -> None:
    given: list[tuple[str, bytes, bytes]] = []

    def verify(peer: str, body: bytes, signature: bytes) -> bool:
        given.append((peer, body, signature))
        return True

    record = Record("c1", "x", "alice", {"carol", "bob"}, b"", b"seal")
    fed = import_(fed, [record], everyone, verify=verify)
    assert given == [("alice", record.statement, b"seal")]
    # The same from the outside: what was stored is what the statement says.
    [stored] = export(fed, "me")
    digest = hashlib.sha256(Codec().encode(fed.cache["c1"])).hexdigest()
    assert (stored.digest, fed.provenance["c1"], fed.lineage["c1"]) == (digest, "alice", frozenset({"bob", "carol"}))
    assert given[0][1] == statement("c1", len(stored.payload), digest, fed.lineage["c1"], fed.provenance["c1"])


@pytest.mark.parametrize("field", ["cid", "result", "lineage", "more lineage", "peer"])
def test_a_signature_holds_for_no_other_record(fed: Federation, field: str) -> None:
    good = signed(Record("c1", 1, "alice", {"carol"}))
    changed: dict[str, dict[str, Any]] = {
        "cid": {"cid": "c2"},
        "result": {"result": 2},
        "lineage": {"lineage": frozenset()},
        "more lineage": {"lineage": frozenset({"carol", "dave"})},
        "peer": {"peer": "bob"},
    }
    fields: dict[str, Any] = {"cid": "c1", "result": 1, "peer": "alice", "lineage": {"carol"}} | changed[field]
    assert rejections(fed, Record(**fields, signature=good.signature), good, verify=sealed) == {"forged": 1}


def answers() -> list[Any]:
    class Yes:
        def __bool__(self) -> bool:
            return True

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]  # not needed

    return [pytest.param(a, id=repr(a)[:20]) for a in (1, "yes", b"ok", [0], Yes(), None, False)]


@pytest.mark.parametrize("answer", answers())
def test_only_true_verifies(fed: Federation, answer: Any) -> None:
    record = Record("c1", 1, "alice", frozenset(), b"", b"seal")
    assert rejections(fed, record, verify=lambda *_: answer) == {"forged": 1}


def test_a_verify_that_raises_rejects_that_record_and_no_other(fed: Federation) -> None:
    def verify(peer: str, body: bytes, signature: bytes) -> bool:
        if signature == b"bad":
            raise ValueError("cannot read this signature")
        return True

    bundle = [Record(f"c{n}", n, "alice", frozenset(), b"", s) for n, s in enumerate((b"good", b"bad", b"good"))]
    assert rejections(fed, *bundle, verify=verify) == {"forged": 1}
    assert set(fed) == {"c0", "c2"}


def test_a_verify_that_is_interrupted_ends_the_call_and_nothing_is_written(fed: Federation) -> None:
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    bundle = [signed(Record("c1", 1, "alice"))]
    with pytest.raises(KeyboardInterrupt):
        import_(fed, bundle, everyone, verify=interrupted)
    assert len(fed) == 0


def test_verify_is_not_asked_about_a_record_that_is_refused_before(fed: Federation) -> None:
    asked: list[str] = []

    def verify(peer: str, body: bytes, signature: bytes) -> bool:
        asked.append(peer)
        return True

    bundle = [signed(Record("c1", 1, "mallory")), signed(Record("c2", 1, "alice")), Record("c3", 1, "alice")]
    import_(fed, bundle, {"alice"}.__contains__, verify=verify)
    assert asked == ["alice"]


# --- order --------------------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "malformed": {"cid": "not a cid"},
    "untrusted": {"peer": "mallory"},
    "lineage": {"lineage": frozenset({"eve"})},
    "corrupt": {"digest": "0" * 64},
    "forged": {"signature": b"wrong"},
    "recipe": {"recipe": b"not the recipe"},
}


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(WRONG, 2)))
def test_a_record_wrong_in_two_ways_has_the_first_reason_of_the_order(fed: Federation, first: str, second: str) -> None:
    fields = {"cid": N.cid, "result": 1, "peer": "alice", "recipe": N.recipe, **WRONG[first], **WRONG[second]}
    fields.setdefault("signature", seal(fields["peer"], encoded(**fields).statement))
    assert rejections(
        fed,
        encoded(**fields),
        trusted=lambda peer: peer != "mallory",
        trusted_lineage=lambda peer: peer != "eve",
        verify=sealed,
    ) == {first: 1}


def test_the_order_of_the_reasons_is_the_order_of_the_list() -> None:
    assert [r for r in REASONS if r in WRONG] == list(WRONG)


def test_a_wrong_label_comes_before_trust_and_after_form(fed: Federation) -> None:
    def trusted(peer: str) -> bool:
        raise AssertionError(f"asked about {peer}")

    bundle = [Record("c1", 1, "mallory"), Record("c 2", 1, "mallory")]
    fed = pull(fed, lambda peer: bundle, "alice", trusted)
    assert fed.report.rejected == {"mislabelled": 1, "malformed": 1}


def test_an_unsigned_record_with_a_wrong_recipe_is_unsigned(fed: Federation) -> None:
    assert rejections(fed, Record("c1", 1, "alice", frozenset(), b"r"), verify=sealed) == {"unsigned": 1}


# --- what has no bytes, and what is no value ------------------------------------------------------


def test_a_result_without_bytes_is_kept_in_memory_and_refused_on_disk(durable: Federation) -> None:
    thing = object()
    fed = import_(Federation({}), [Record("c1", thing, "alice")], everyone)
    assert fed.cache["c1"] is thing
    assert rejections(durable, Record("c1", thing, "alice")) == {"malformed": 1}


def test_a_result_without_bytes_cannot_be_verified(fed: Federation) -> None:
    record = Record("c1", object(), "alice", frozenset(), b"", b"seal")
    assert rejections(fed, record, verify=lambda *_: True) == {"malformed": 1}


def test_bytes_that_are_no_value_are_never_returned(fed: Federation) -> None:
    fed = import_(fed, [encoded("c1", 1, "alice", payload=b"J{", digest=hashlib.sha256(b"J{").hexdigest())], everyone)
    told: list[Any] = []
    assert fed.cache.load(["c1"], told.append) == {}  # type: ignore[attr-defined]  # of a cache inside a Federation
    # In memory they are decoded at the gate; on disk they wait to be asked for.
    assert [e.kind for e in told] == ["damaged"] * (1 - fed.report.rejected.get("malformed", 0))


def test_the_codec_of_the_importing_instance_writes_what_the_record_cannot() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    codec = Codec().with_type("point", Point, lambda p: p.x, Point)
    fed = artdag_fed.open(codec=codec)
    record = Record("c1", Point(1), "alice", frozenset(), b"", b"seal")
    assert import_(fed, [record], everyone, verify=lambda *_: True).report.admitted == 1
