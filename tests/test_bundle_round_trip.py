"""Bundles: what goes in comes out, and what cannot be sent is not written.

`vectors/bundle.json` describes the bundles beside it, `bundle-*.bin`, so that another language can be tested with them.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import artdag_fed
from artdag_fed import (
    BundleError,
    Codec,
    CodecError,
    Federation,
    InvalidName,
    Record,
    export,
    import_,
    read_bundle,
    write_bundle,
)
from artdag_fed.bundle import MAGIC, bundle_chunks
from artdag_fed.bundle_header import BLOCK_BYTES, BLOCK_RECORDS
from tests.bundles import Trickle, everyone, read, some, written

VECTORS = Path(__file__).parent / "vectors"
DESCRIBED = json.loads((VECTORS / "bundle.json").read_text("ascii"))


# --- what goes in comes out -----------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, BLOCK_RECORDS, BLOCK_RECORDS + 1, 5000])
def test_what_is_written_is_read(count: int) -> None:
    records = some(count)
    stream = io.BytesIO()
    assert write_bundle(stream, iter(records)) == count
    assert read(stream.getvalue()) == records


names = st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=20)
cids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,20}", fullmatch=True)


@given(
    st.lists(
        st.builds(
            Record,
            cids,
            st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.lists(st.floats(allow_nan=False))),
            names,
            st.frozensets(names, max_size=4),
            st.binary(max_size=30),
            st.binary(max_size=30),
        ),
        max_size=20,
    )
)
@settings(max_examples=200, deadline=None)
def test_any_records_come_out_as_they_went_in(records: list[Record]) -> None:
    stream = written(records)
    again = read(stream)
    assert again == records
    assert written(again) == stream, "one spelling"


def test_a_large_record_has_a_block_of_its_own_and_many_small_ones_share_one() -> None:
    large = Record("large", os.urandom(BLOCK_BYTES), "alice", recipe=b"recipe")
    records = [*some(3), large, *some(3)]
    stream = written(records)
    sizes, at = [], len(MAGIC)
    while length := int.from_bytes(stream[at : at + 4], "big"):
        head = stream[at + 4 : at + 4 + length]
        sizes.append(int.from_bytes(head[:4], "big"))
        n, m = struct.unpack_from(">II", head)
        numbers = struct.unpack_from(f">{m}I{n}I{n}Q{n}I", head, 8)
        at += 4 + length + sum(numbers[m + n :])
    assert sizes == [3, 1, 3]
    assert read(stream) == records


def test_the_chunks_of_a_bundle_are_what_is_written_and_none_is_empty() -> None:
    for records in ([], some(5), [*some(BLOCK_RECORDS + 3), Record("large", bytes(BLOCK_BYTES), "alice")]):
        chunks = list(bundle_chunks(iter(records)))
        assert b"".join(chunks) == written(records) and all(chunks)


def test_short_reads_and_short_writes_make_no_difference() -> None:
    records = [*some(40), Record("large", os.urandom(300_000), "alice")]
    sink = Trickle(most=1000)
    write_bundle(sink, records)
    assert sink.got == written(records)
    assert list(read_bundle(Trickle(sink.got))) == records
    assert list(read_bundle(io.BufferedReader(Trickle(sink.got, 5000)))) == records


def test_a_sink_that_says_nothing_took_everything() -> None:
    class Sink:
        got = b""

        def write(self, data: bytes) -> None:
            self.got += data

    sink = Sink()
    write_bundle(sink, some(10))
    assert sink.got == written(some(10))


def test_payloads_pass_undecoded_with_the_digest_that_was_declared() -> None:
    record = Record.encoded("c1", b"?no value", "ab" * 32, "alice")
    [again] = read(written([record]))
    assert (again.payload, again.digest, again.declared) == (b"?no value", "ab" * 32, True)


def test_results_are_decoded_with_the_codec_that_is_given() -> None:
    codec = Codec().with_type("complex list", range, lambda r: [r.start, r.stop], lambda x: range(*x))
    stream = written([Record("c1", range(2, 7), "alice", codec=codec)])
    assert [r.result for r in read_bundle(io.BytesIO(stream), codec=codec)] == [range(2, 7)]
    with pytest.raises(CodecError, match="complex list"):
        _ = read(stream)[0].result


def test_an_export_goes_through_a_file_into_a_cache(fed: Federation, tmp_path: Path) -> None:
    alice = Federation({f"c{i}": [i, "x" * i] for i in range(500)})
    path = tmp_path / "bundle"
    with path.open("wb") as file:
        assert write_bundle(file, export(alice, "alice")) == 500
    with path.open("rb") as file:
        bob = import_(fed, read_bundle(file), everyone)
    assert (bob.report.admitted, bob.provenance["c3"], bob.cache["c3"]) == (500, "alice", [3, "xxx"])


def test_records_come_before_the_rest_of_the_stream_was_read() -> None:
    records = some(5000)
    raw = io.BytesIO(written(records))
    assert next(read_bundle(raw)) == records[0]
    assert raw.tell() < len(raw.getvalue()) / 2


def test_equal_origins_are_one_object_in_all_blocks() -> None:
    records = read(written(some(5000)))
    assert len({(r.peer, id(r.lineage)) for r in records}) == 4


# --- what cannot be written -----------------------------------------------------------------


def test_what_has_no_bytes_is_refused_before_anything_of_its_block_is_written() -> None:
    sink = io.BytesIO()
    with pytest.raises(CodecError, match="object"):
        write_bundle(sink, [*some(3), Record("c", object(), "alice")])
    assert sink.getvalue() == MAGIC
    with pytest.raises(BundleError, match="cut off"):
        read(sink.getvalue())


wrong: Any = Record  # is called with types that it does not take


@pytest.mark.parametrize(
    ("record", "error"),
    [
        (Record("no cid", 1, "alice"), InvalidName),
        (Record("", 1, "alice"), InvalidName),
        (Record("a" * 129, 1, "alice"), InvalidName),
        (Record("-a", 1, "alice"), InvalidName),
        (Record("c\ud800", 1, "alice"), InvalidName),
        (Record("c1\nc2", 1, "alice"), InvalidName),
        (wrong(7, 1, "alice"), TypeError),
        (Record("c", 1, "al\nice"), InvalidName),
        (Record("c", 1, ""), InvalidName),
        (wrong("c", 1, None), TypeError),
        (Record("c", 1, "alice", {"bob\n"}), InvalidName),
        (wrong("c", 1, "alice", {1}), TypeError),
        (wrong("c", 1, "alice", recipe="text"), TypeError),
        (wrong("c", 1, "alice", signature=bytearray(3)), TypeError),
        (wrong.encoded("c", bytearray(b"J1"), "0" * 64, "alice"), TypeError),
        (Record.encoded("c", b"J1", "0" * 63, "alice"), BundleError),
        (Record.encoded("c", b"J1", "A" * 64, "alice"), BundleError),
        (Record.encoded("c", b"J1", "0" * 63 + " ", "alice"), BundleError),
        (Record.encoded("c", b"J1", "g" * 64, "alice"), BundleError),
        (wrong.encoded("c", b"J1", 7, "alice"), BundleError),
        (Record.encoded("c", None, "0" * 64, "alice"), CodecError),
        ("c", TypeError),
    ],
)
def test_a_record_that_nobody_would_take_is_not_sent(record: Any, error: type[Exception]) -> None:
    sink = io.BytesIO()
    with pytest.raises(error):
        write_bundle(sink, [Record("d", 1, "alice"), record])
    assert sink.getvalue() == MAGIC


def test_digests_that_only_fit_together_are_refused() -> None:
    halves = [Record.encoded(f"c{n}", b"J1", "0" * n, "alice") for n in (32, 96)]
    with pytest.raises(BundleError, match="SHA-256"):
        written(halves)


@pytest.mark.parametrize("cid", ["a", "a" * 128, "Zz-9._:", "f" * 64])
def test_every_cid_can_be_sent(cid: str) -> None:
    assert [r.cid for r in read(written([Record(cid, 1, "alice")]))] == [cid]


def test_what_reading_the_records_raises_goes_through() -> None:
    def records() -> Iterator[Record]:
        yield Record("c", 1, "alice")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        written(records())


@pytest.mark.parametrize(("answer", "error"), [("x", TypeError), (-1, TypeError), (10**9, TypeError)])
def test_a_sink_that_counts_wrongly_is_refused(answer: Any, error: type[Exception]) -> None:
    class Sink:
        def write(self, data: bytes) -> Any:
            return answer

    with pytest.raises(error, match="says that it took"):
        write_bundle(Sink(), some(1))


def test_a_raw_sink_that_would_block_is_refused() -> None:
    class Full(io.RawIOBase):
        def write(self, data: Any) -> None:
            return None

    with pytest.raises(BlockingIOError, match="blocking"):
        write_bundle(Full(), some(1))


# --- vectors --------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", DESCRIBED["bundles"], ids=lambda vector: vector["file"])
def test_the_bundles_beside_the_tests_are_read_and_written_as_described(vector: dict[str, Any]) -> None:
    stream = (VECTORS / vector["file"]).read_bytes()
    assert hashlib.sha256(stream).hexdigest() == vector["sha256"]
    records = read(stream)
    assert len(records) == vector["count"]
    assert written(records) == stream
    if "records" not in vector:
        assert records == [Record(f"c{i}", i, "alice") for i in range(vector["count"])]
        return
    assert [
        {
            "cid": r.cid,
            "peer": r.peer,
            "lineage": sorted(r.lineage),
            "payload": r.payload.hex(),
            "digest": r.digest,
            "recipe": r.recipe.hex(),
            "signature": r.signature.hex(),
            "statement": r.statement.hex(),
        }
        for r in records
    ] == vector["records"]


@pytest.mark.parametrize("vector", DESCRIBED["refused"], ids=lambda vector: vector["description"])
def test_the_streams_that_are_described_as_refused_are(vector: dict[str, Any]) -> None:
    with pytest.raises(BundleError):
        read(bytes.fromhex(vector["stream"]))


@pytest.mark.parametrize("vector", DESCRIBED["bundles"], ids=lambda vector: vector["file"])
def test_signatures_of_the_vectors_are_hmacs_of_the_statements(vector: dict[str, Any]) -> None:
    keys = {peer: bytes.fromhex(key) for peer, key in DESCRIBED["hmac_sha256_keys"].items()}
    for record in read((VECTORS / vector["file"]).read_bytes()):
        if record.signature:
            assert record.signature == hmac.digest(keys[record.peer], record.statement, "sha256")


def test_a_durable_cache_takes_the_vectors(tmp_path: Path) -> None:
    fed = artdag_fed.open(tmp_path / "cache")
    for vector in DESCRIBED["bundles"]:
        with (VECTORS / vector["file"]).open("rb") as file:
            fed = import_(fed, read_bundle(file), lambda peer: True)
        assert dict(fed.report.rejected) == {}
    fed.cache.close()  # type: ignore[attr-defined]  # every cache inside a Federation has it
