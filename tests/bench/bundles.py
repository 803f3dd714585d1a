"""`python -m tests.bench.bundles [name ...] [--rounds N] [--small]`: bundles beside msgpack, JSON and plain files.

What is compared with what, each written to a file and read back from it in the same round:

small     100,000 records of 200 B, as they come out of a cache (bytes with their digest), written, read, and each
          payload hashed and compared with its digest. Beside it: the tuples (cid, peer, digest, payload) through
          msgpack's `Packer` and `Unpacker`, which checks nothing.
decoded   100,000 results, small dicts, from objects to objects: digests made when written, each result decoded. Beside
          it: one `json.dumps` and one `json.loads` a line, of cid, peer and result.
checked   The same with each digest checked, which is the work of the import and not of the reader.
relayed   A bundle of the same 100,000 results, read, each digest checked, and written again, undecoded, as a mirror
          does. Beside it: the JSON lines of the row above read, decoded, encoded and written again.
imported  The same bundle imported into a `DiskCache`, undecoded, durable when it returns. Beside it: the JSON lines of
          the same results written, read and decoded, which stores nothing.
large     1,000 results of 1 MB: digests made when written and checked when read. Beside it: the same bytes written to
          a plain file and read again, with one SHA-256 over them each way.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import artdag_fed
from artdag_fed import Record, import_, read_bundle, write_bundle
from tests.bench.measure import Round, ratio


def cid(i: int) -> str:
    return hashlib.sha256(b"%d" % i).hexdigest()


def write(path: Path, records: Iterable[Record]) -> None:
    with path.open("wb") as file:
        write_bundle(file, records)


def read(path: Path, *, checked: bool = True) -> Iterator[Record]:
    """The records of a bundle, each with its digest checked."""
    sha256 = hashlib.sha256
    with path.open("rb") as file:
        if not checked:
            yield from read_bundle(file)
            return
        for record in read_bundle(file):
            assert sha256(record.payload).hexdigest() == record.digest
            yield record


# --- small ----------------------------------------------------------------------------------


def small(count: int) -> tuple[Round, Round]:
    msgpack: Any = importlib.import_module("msgpack")  # from the group `bench`
    payloads = [b"B" + os.urandom(199) for _ in range(count)]
    tuples = [(cid(i), "alice", hashlib.sha256(p).hexdigest(), p) for i, p in enumerate(payloads)]
    records = [Record.encoded(c, p, d, peer) for c, peer, d, p in tuples]

    def ours(folder: Path) -> Callable[[], object]:
        def timed() -> object:
            write(folder / "bundle", records)
            return sum(1 for _ in read(folder / "bundle"))

        return timed

    def plain(folder: Path) -> Callable[[], object]:
        def timed() -> object:
            packer = msgpack.Packer()
            with (folder / "msgpack").open("wb") as file:
                for one in tuples:
                    file.write(packer.pack(one))
            with (folder / "msgpack").open("rb") as file:
                return sum(1 for _ in msgpack.Unpacker(file))

        return timed

    return ours, plain


# --- structured results ---------------------------------------------------------------------


def results(count: int) -> list[tuple[str, Any]]:
    return [
        (cid(i), {"frame": i, "name": f"shot {i}", "mean": i / 7, "at": [i, 2.5], "ok": True}) for i in range(count)
    ]


def json_lines(path: Path, made: Iterable[tuple[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for c, value in made:
            file.write(json.dumps({"cid": c, "peer": "alice", "result": value}) + "\n")


def json_read(path: Path) -> Iterator[tuple[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            one = json.loads(line)
            yield one["cid"], one["result"]


def decoded(count: int, *, checked: bool) -> tuple[Round, Round]:
    made = results(count)

    def ours(folder: Path) -> Callable[[], object]:
        def timed() -> None:
            write(folder / "bundle", (Record(c, value, "alice") for c, value in made))
            for record in read(folder / "bundle", checked=checked):
                record.result  # noqa: B018  # decoded when it is asked for

        return timed

    def plain(folder: Path) -> Callable[[], object]:
        def timed() -> object:
            json_lines(folder / "lines", made)
            return sum(1 for _ in json_read(folder / "lines"))

        return timed

    return ours, plain


def relayed(count: int) -> tuple[Round, Round]:
    made = results(count)

    def ours(folder: Path) -> Callable[[], object]:
        write(folder / "bundle", (Record(c, value, "alice") for c, value in made))
        return lambda: write(folder / "again", read(folder / "bundle"))

    def plain(folder: Path) -> Callable[[], object]:
        json_lines(folder / "lines", made)
        return lambda: json_lines(folder / "again", json_read(folder / "lines"))

    return ours, plain


def imported(count: int) -> tuple[Round, Round]:
    made = results(count)

    def ours(folder: Path) -> Callable[[], object]:
        write(folder / "bundle", (Record(c, value, "alice") for c, value in made))

        def timed() -> object:
            with (folder / "bundle").open("rb") as file:
                fed = import_(artdag_fed.open(folder / "cache"), read_bundle(file), {"alice"}.__contains__)
            assert fed.report.admitted == count
            return fed

        return timed

    return ours, decoded(count, checked=False)[1]


# --- large ----------------------------------------------------------------------------------


def large(count: int, size: int) -> tuple[Round, Round]:
    values = [os.urandom(size) for _ in range(16)]

    def ours(folder: Path) -> Callable[[], object]:
        def timed() -> object:
            write(folder / "bundle", (Record(f"c{i}", values[i % 16], "alice") for i in range(count)))
            return sum(1 for _ in read(folder / "bundle"))

        return timed

    def plain(folder: Path) -> Callable[[], object]:
        def timed() -> None:
            sha256 = hashlib.sha256
            with (folder / "plain").open("wb") as file:
                for i in range(count):
                    file.write(values[i % 16])
                    sha256(values[i % 16]).hexdigest()
            with (folder / "plain").open("rb") as file:
                while data := file.read(size):
                    sha256(data).hexdigest()

        return timed

    return ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bundles")
    parser.add_argument("names", nargs="*", help="small, decoded, checked, relayed, imported, large (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--small", action="store_true", help="a twentieth of the size: shows that it works, not how fast"
    )
    asked = parser.parse_args()
    many, few = (5_000, 50) if asked.small else (100_000, 1_000)
    rows: dict[str, tuple[str, Callable[[], tuple[Round, Round]], float]] = {
        "small": (f"{many:,} records of 200 B, written, read, digests checked / msgpack", lambda: small(many), 4),
        "decoded": (
            f"{many:,} small dicts, written, read, decoded / JSON lines",
            lambda: decoded(many, checked=False),
            1.2,
        ),
        "checked": (f"{many:,} likewise, and digests checked / JSON lines", lambda: decoded(many, checked=True), 1.4),
        "relayed": (
            f"{many:,} small dicts, read and written again, undecoded / JSON lines",
            lambda: relayed(many),
            0.6,
        ),
        "imported": (
            f"{many:,} small dicts, bundle to durable cache / JSON lines written, read",
            lambda: imported(many),
            1,
        ),
        "large": (
            f"{few:,} results of 1 MB, written and read / plain file and SHA-256",
            lambda: large(few, 1_000_000),
            1.25,
        ),
    }
    for name, (what, make, at_most) in rows.items():
        if not asked.names or name in asked.names:
            ratio(what, *make(), at_most, asked.rounds)


if __name__ == "__main__":
    main()
