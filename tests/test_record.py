"""Records and bundles: claims that are frozen, and the exact bytes that are signed."""

from __future__ import annotations

import hashlib
import pickle
from typing import Any

import pytest

from artdag_fed import Bundle, Codec, CodecError, Federation, Record, export, import_
from artdag_fed.record import statement

GOLDEN = (
    b"DSSEv1 36 application/vnd.artdag-fed.record.v1 236 artdag-fed record v1\n"
    b"cid 0f00000000000000000000000000000000000000000000000000000000000001\n"
    b"result 9 d5e8c9e2a7a3ea3d9bea2b4f6fbc9c1c4f4d1a4c0f1b33ecb8fd7be7e0f6f0aa\n"
    b"lineage 5\n"
    b"Zoe\n"
    b"alice\n"
    b"\xc3\xa9mile\n"
    b"\xef\xbd\xa1peer\n"
    b"\xf0\x9f\x8e\xa8studio\n"
    b"by @studio@artdag.example\n"
)
"""Written out by hand from DESIGN, section 6. The peers are in the order of code points: U+FF61 comes before U+1F3A8,
which it would not in UTF-16."""

LINEAGE = {"🎨studio", "｡peer", "émile", "alice", "Zoe"}


def encoded(payload: bytes, digest: str | None = None, **more: Any) -> Record:
    return Record.encoded("c1", payload, hashlib.sha256(payload).hexdigest() if digest is None else digest, "a", **more)


# --- the statement --------------------------------------------------------------------------------


def test_the_statement_is_these_bytes() -> None:
    digest = "d5e8c9e2a7a3ea3d9bea2b4f6fbc9c1c4f4d1a4c0f1b33ecb8fd7be7e0f6f0aa"
    frame, _, body = GOLDEN.partition(b" artdag-fed record v1\n")
    assert frame.split()[1:] == [
        b"36",
        b"application/vnd.artdag-fed.record.v1",
        b"%d" % len(b"artdag-fed record v1\n" + body),
    ]
    assert statement("0f" + "0" * 61 + "1", 9, digest, LINEAGE, "@studio@artdag.example") == GOLDEN


def test_the_statement_of_a_record_without_lineage_is_these_bytes() -> None:
    record = Record("c1", None, "alice")
    digest = hashlib.sha256(b"Jnull").hexdigest()
    body = f"artdag-fed record v1\ncid c1\nresult 5 {digest}\nlineage 0\nby alice\n".encode()
    assert record.statement == b"DSSEv1 36 application/vnd.artdag-fed.record.v1 %d %s" % (len(body), body)


@pytest.mark.parametrize("order", [sorted(LINEAGE), sorted(LINEAGE, reverse=True)])
def test_the_order_in_which_lineage_is_given_makes_no_difference(order: list[str]) -> None:
    assert Record("c1", 1, "bob", order).statement == Record("c1", 1, "bob", LINEAGE).statement


def test_a_record_is_signed_over_its_statement_and_otherwise_the_same() -> None:
    for record in (
        Record("c1", 1, "a", frozenset("b"), b"recipe"),
        encoded(b"J1", lineage=frozenset("b"), recipe=b"recipe"),
    ):
        made = record.signed(lambda body: b"over " + body)
        assert made.signature == b"over " + record.statement and record.signature == b""
        assert (made.cid, made.result, made.peer, made.lineage, made.recipe) == (
            "c1",
            1,
            "a",
            frozenset("b"),
            b"recipe",
        )
        assert (made.declared, made.statement) == (record.declared, record.statement)


# --- a record -------------------------------------------------------------------------------------


def test_a_record_is_frozen() -> None:
    record = Record("c1", 1, "alice")
    for name in ("cid", "result", "peer", "lineage", "recipe", "signature", "payload", "digest", "other"):
        with pytest.raises(AttributeError, match=r"frozen|no setter|property"):
            setattr(record, name, 1)
    with pytest.raises(AttributeError, match="its cid stays"):
        del record.cid


def test_payload_and_digest_are_made_when_first_asked_for_and_once() -> None:
    class Slow(Codec):
        asked = 0

        def encode(self, value: object) -> bytes:
            type(self).asked += 1
            return super().encode(value)

    record = Record("c1", [1], "alice", codec=Slow())
    assert Slow.asked == 0
    assert (record.digest, record.payload, record.digest) == (
        hashlib.sha256(b"J[1]").hexdigest(),
        b"J[1]",
        record.digest,
    )
    assert Slow.asked == 1


def test_a_record_read_from_bytes_is_decoded_when_first_asked_for_and_once() -> None:
    record = encoded(b"J[1]")
    assert record.declared and record.result == [1] and record.result is record.result


def test_a_digest_that_was_declared_stays_a_claim_after_the_result_was_looked_at() -> None:
    record = encoded(b"J1", digest="0" * 64)
    assert record.result == 1
    assert record.declared and record.digest == "0" * 64
    assert import_(Federation({}), [record], {"a"}.__contains__).report.rejected == {"corrupt": 1}


def test_none_is_a_result_like_any_other() -> None:
    assert (Record("c1", None, "alice").result, encoded(b"Jnull").result) == (None, None)


def test_a_record_whose_bytes_are_no_value_says_so_when_asked() -> None:
    record = encoded(b"?")
    assert record.payload == b"?"
    with pytest.raises(CodecError):
        _ = record.result
    with pytest.raises(CodecError):
        _ = Record("c1", object(), "alice").payload


def test_lineage_is_any_iterable_but_a_text() -> None:
    assert Record("c1", 1, "alice", ["bob", "bob"]).lineage == frozenset({"bob"})
    with pytest.raises(TypeError, match="a set of peers, not the text 'bob'"):
        Record("c1", 1, "alice", "bob")


def test_records_are_equal_by_their_fields_and_their_results() -> None:
    one = Record("c1", [1], "alice", {"bob"}, b"r", b"s")
    assert one == Record("c1", [1], "alice", ["bob"], b"r", b"s")
    assert len({one, Record("c1", [1], "alice", {"bob"}, b"r", b"s")}) == 1
    for other in (
        Record("c2", [1], "alice", {"bob"}, b"r", b"s"),
        Record("c1", [2], "alice", {"bob"}, b"r", b"s"),
        Record("c1", [1], "bob", {"bob"}, b"r", b"s"),
        Record("c1", [1], "alice", (), b"r", b"s"),
        Record("c1", [1], "alice", {"bob"}, b"", b"s"),
        Record("c1", [1], "alice", {"bob"}, b"r"),
        "c1",
    ):
        assert one != other
    thing = object()
    assert Record("c1", thing, "a") == Record("c1", thing, "a") != Record("c1", object(), "a")


@pytest.mark.parametrize(
    "record", [Record("c1", [1], "a", {"b"}, b"r", b"s"), encoded(b"J[1]", lineage=frozenset("b"))]
)
def test_a_record_can_be_pickled(record: Record) -> None:
    back = pickle.loads(pickle.dumps(record))
    assert (back, back.declared, back.result) == (record, record.declared, record.result)


def test_the_repr_of_a_record_is_one_short_line_without_the_result() -> None:
    assert repr(Record("c1", "x" * 9999, "alice")) == "<Record 'c1' from 'alice'>"
    hostile = Record("\x1b[2J" * 99, 1, "\n" * 9999, {"b"}, b"", b"s")
    assert len(repr(hostile)) < 150 and repr(hostile).isprintable()
    assert repr(hostile).endswith(", resting on 1, signed>")


# --- a bundle -------------------------------------------------------------------------------------


def test_a_bundle_says_whose_it_is_and_what_it_was_made_for() -> None:
    bundle = export(Federation({"c1": 1, "c2": 2}), "alice", ["c2", "c9"])
    assert isinstance(bundle, Bundle)
    assert (bundle.peer, bundle.cids) == ("alice", ("c2", "c9"))
    assert repr(bundle) == "<Bundle of up to 2 records from 'alice'>"


def test_a_bundle_reads_one_result_at_a_time() -> None:
    read: list[str] = []

    class Watched(dict[str, Any]):
        def __getitem__(self, cid: str) -> Any:
            read.append(cid)
            return super().__getitem__(cid)

    bundle = iter(export(Federation(Watched(c1=1, c2=2)), "alice"))
    assert read == []
    next(bundle)
    assert set(read) == {"c1"}
