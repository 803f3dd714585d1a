"""Bundles: bounded in size and memory, whatever file or stream they are read from."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from artdag_fed import (
    BundleError,
    CodecError,
    Federation,
    Limits,
    Record,
    TransportError,
    import_,
    read_bundle,
    write_bundle,
)
from artdag_fed.bundle import MAGIC, READ_BYTES
from artdag_fed.bundle_header import BLOCK_RECORDS
from tests.bundles import Trickle, everyone, header, read, some, stream_of, written


class Gives:
    """Something with a `read` that answers what one likes."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)

    def read(self, size: int) -> Any:
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


# --- limits ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"records": 29}, "Limits.records"),
        ({"bytes": 200}, "Limits.bytes"),
        ({"header_bytes": 100}, "Limits.header_bytes"),
        ({"origins": 3}, "Limits.origins"),
    ],
)
def test_a_bundle_over_a_limit_on_the_whole_is_refused(limits: dict[str, int], message: str) -> None:
    got = []
    with pytest.raises(BundleError, match=message):
        got.extend(read_bundle(io.BytesIO(written(some(30))), Limits(**limits)))
    assert got == []


def test_a_bundle_that_just_keeps_its_limits_is_read() -> None:
    records = some(30)
    size = sum(len(r.payload) + len(r.recipe) for r in records)
    most = max(len(r.payload) for r in records)
    assert (
        read(written(records), records=30, bytes=size, origins=4, record_bytes=most, recipe_bytes=9, lineage=2)
        == records
    )


def test_a_limit_on_the_whole_counts_over_all_blocks() -> None:
    stream = written(some(BLOCK_RECORDS + 30))
    with pytest.raises(BundleError, match=r"Limits\.records"):
        read(stream, records=BLOCK_RECORDS + 29)
    one, other = header(names="alice\nc1"), header(names="bob\nc1")
    with pytest.raises(BundleError, match=r"Limits\.origins"):
        read(stream_of((one, b"J1"), (other, b"J1")), origins=1)


deep = Record("over", [[[[1]]]], "alice")
deep_tagged = Record("over", ([[(1,)]], b"[" * 9), "alice")


@pytest.mark.parametrize(
    ("over", "limits"),
    [
        pytest.param(Record("over", "x" * 100, "alice"), {"record_bytes": 50}, id="a payload"),
        pytest.param(
            Record("over", b"x" * (READ_BYTES + 100), "alice"), {"record_bytes": READ_BYTES}, id="a large one"
        ),
        pytest.param(Record("over", 1, "alice", recipe=b"x" * 100), {"recipe_bytes": 50}, id="a recipe"),
        pytest.param(Record("over", 1, "alice", {"a", "b", "c"}), {"lineage": 2}, id="a lineage"),
        pytest.param(deep, {"nesting": 3}, id="brackets"),
        pytest.param(deep_tagged, {"nesting": 3}, id="brackets of a tagged payload"),
    ],
)
def test_a_record_over_a_limit_of_its_own_is_malformed_and_the_rest_goes_on(
    fed: Federation, over: Record, limits: dict[str, int]
) -> None:
    around = [Record("c1", "[[[[[[", "alice", {"a", "b"}), Record("c2", b"[[[[[[", "alice")]
    stream = written([around[0], over, around[1]])
    got = read(stream, **limits)
    assert got[::2] == around
    with pytest.raises(CodecError, match="left out"):
        _ = got[1].payload
    fed = import_(fed, read_bundle(io.BytesIO(stream), Limits(**limits)), everyone)
    assert (dict(fed.report.rejected), sorted(fed)) == ({"malformed": 1}, ["c1", "c2"])


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(MAGIC + struct.pack(">I", 1 << 20), id="a header"),
        pytest.param(stream_of((header(sizes=[1 << 30]), b"J1")), id="a payload"),
        pytest.param(stream_of((header(sizes=[1 << 35]), b"J1")), id="a payload over the limit"),
        pytest.param(stream_of((header(recipes=[1 << 18]), b"J1")), id="a recipe"),
        pytest.param(stream_of((header(n=2**32 - 1, m=2**32 - 1), b"J1")), id="a count"),
        pytest.param(stream_of((header(lineages=[2**32 - 1]), b"J1")), id="a lineage"),
        pytest.param(stream_of((header(names="\n" * 900_000), b"J1")), id="names"),
    ],
)
def test_a_size_that_lies_takes_no_memory(stream: bytes) -> None:
    raw = io.BufferedReader(Trickle(stream, len(stream)))  # sets aside what it is asked for
    tracemalloc.start()
    try:
        with pytest.raises(BundleError):
            list(read_bundle(raw))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20


def test_a_large_payload_is_asked_for_in_steps_of_what_has_come() -> None:
    asked = []

    class Noting(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    stream = written([Record("c", bytes(9 * READ_BYTES - 1), "alice")])
    assert len(list(read_bundle(Noting(stream)))) == 1
    large = [size for size in asked if size and size >= READ_BYTES]
    assert large == [READ_BYTES, READ_BYTES, 2 * READ_BYTES, 4 * READ_BYTES, READ_BYTES]


def test_a_lineage_over_the_limit_is_not_kept() -> None:
    [record] = read(written([Record("c", 1, "alice", {"a", "b", "c"})]), lineage=2)
    assert (record.peer, record.lineage) == ("alice", frozenset())


def test_an_endless_stream_ends_at_a_limit() -> None:
    head = header()
    block = struct.pack(">I", len(head)) + head + b"J1"

    class Endless:
        data = MAGIC

        def read(self, size: int) -> bytes:
            while len(self.data) < size:
                self.data += block * 100
            given, self.data = self.data[:size], self.data[size:]
            return given

    with pytest.raises(BundleError, match=r"Limits\.records"):
        for _ in read_bundle(Endless(), Limits(records=10_000)):
            pass


# --- files that are none --------------------------------------------------------------------


@pytest.mark.parametrize("fp", [None, b"bytes", "text", 7, [b"chunks"]])
def test_what_cannot_be_read_is_refused_by_the_call(fp: Any) -> None:
    with pytest.raises(TypeError, match="binary file"):
        read_bundle(fp)


@pytest.mark.parametrize(("limits", "codec"), [({"records": 1}, None), (None, None), (Limits(), "json")])
def test_wrong_settings_are_refused_by_the_call(limits: Any, codec: Any) -> None:
    with pytest.raises(TypeError, match="must be a"):
        read_bundle(io.BytesIO(), limits, codec=codec)


@pytest.mark.parametrize(
    ("answer", "message"),
    [("text", "open it as a binary file"), (None, "gave NoneType.*blocks"), (bytearray(1), "bytes")],
)
def test_a_file_that_gives_no_bytes_is_a_type_error(answer: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        list(read_bundle(Gives(answer)))


def test_a_file_that_gives_more_than_it_was_asked_for_is_refused() -> None:
    with pytest.raises(BundleError, match="gave 100 bytes"):
        list(read_bundle(Gives(bytes(100))))


def test_a_line_that_breaks_is_no_broken_bundle(fed: Federation) -> None:
    stream = written(some(3))
    with pytest.raises(ConnectionResetError):
        list(read_bundle(Gives(stream[:1], ConnectionResetError("gone"))))
    with pytest.raises(TransportError, match="gone"):
        import_(fed, read_bundle(Gives(stream[:1], ConnectionResetError("gone"))), everyone)


# --- memory ---------------------------------------------------------------------------------


def test_writing_and_reading_hold_one_block_and_copy_a_large_payload_once() -> None:
    size = 8 << 20

    class Sink:
        def write(self, data: bytes) -> int:
            return len(data)

    payload = os.urandom(size)
    digest = hashlib.sha256(payload).hexdigest()
    stream = written(Record.encoded(f"c{i}", payload, digest, "alice") for i in range(4))

    def peak(work: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            work()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def reading() -> None:
        for _ in read_bundle(raw):
            pass

    raw = io.BytesIO(stream)
    assert (
        peak(lambda: write_bundle(Sink(), (Record.encoded(f"c{i}", payload, digest, "a") for i in range(20))))
        < size // 4
    )
    # The one before is still in the loop's hand while the parts of the next are joined.
    assert peak(reading) < 3.25 * size
