"""Makes `bundle.json` and `bundle-*.bin` beside it: `PYTHONPATH=src python tests/vectors/make_bundles.py`.

They are golden: what this writes may change only with the version of the format.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import struct
from pathlib import Path

from artdag_fed import Record, node, write_bundle
from artdag_fed.bundle import MAGIC

HERE = Path(__file__).parent
KEYS = {"alice": b"the key of alice", "@studio@artdag.example": b"the key of the studio"}


def signed(record: Record) -> Record:
    return record.signed(lambda statement: hmac.digest(KEYS[record.peer], statement, "sha256"))


def described(record: Record) -> dict[str, object]:
    return {
        "cid": record.cid,
        "peer": record.peer,
        "lineage": sorted(record.lineage),
        "payload": record.payload.hex(),
        "digest": record.digest,
        "recipe": record.recipe.hex(),
        "signature": record.signature.hex(),
        "statement": record.statement.hex(),
    }


def stream_of(records: list[Record]) -> bytes:
    stream = io.BytesIO()
    write_bundle(stream, records)
    return stream.getvalue()


def by_hand(*blocks: tuple[bytes, bytes]) -> bytes:
    checked, out, count = hashlib.sha256(MAGIC), MAGIC, 0
    for header, bodies in blocks:
        prefixed = struct.pack(">I", len(header)) + header
        checked.update(prefixed)
        out += prefixed + bodies
        count += int.from_bytes(header[:4], "big")
    end = bytes(4) + struct.pack(">Q", count)
    checked.update(end)
    return out + end + checked.digest()


def header(n: int, lineages: list[int], places: list[int], names: str, signed: int = 0) -> bytes:
    numbers = [n, len(lineages), *lineages, *places]
    digests = hashlib.sha256(b"J1").digest() * n
    columns = struct.pack(f">{len(numbers)}I{n}Q{n}I{n}I", *numbers, *[2] * n, *[0] * n, *[signed] * n)
    return columns + digests + names.encode()


frame = node("load@1", path="a.png")
blurred = node("blur@1", frame, radius=1.5)
BUNDLES = {
    "bundle-empty.bin": ("no records", []),
    "bundle-one.bin": ("one record, with nothing but what it must have", [Record("c1", 1, "alice")]),
    "bundle-signed.bin": (
        "several origins, recipes, signatures, names that are not ASCII",
        [
            signed(Record(frame.cid, {"width": 2, "rows": [0.5, None]}, "alice", recipe=frame.recipe)),
            signed(Record(blurred.cid, (1, b"\0\xff"), "alice", {"bob", "Zo\u00eb"}, blurred.recipe)),
            signed(Record("sha1:ab.cd-ef_0", b"raw", "@studio@artdag.example", {"alice"})),
            Record("Qm9", "\u00e9", "\u30a2\u30ea\u30b9"),
        ],
    ),
    "bundle-blocks.bin": (
        "two blocks; record i has the cid c<i>, the integer i as its result, and the peer alice",
        [Record(f"c{i}", i, "alice") for i in range(1025)],
    ),
}

true = stream_of([Record("c1", 1, "alice")])
body = b"J1"
REFUSED = {
    "no bytes": b"",
    "another magic line": b"artdag-fed bundle V1\n" + true[len(MAGIC) :],
    "version 2": true.replace(b"v1", b"v2", 1),
    "cut off in the trailer": true[:-1],
    "cut off between a block and the trailer": true[:-44],
    "something behind the trailer": true + b"\n",
    "another digest in the trailer": true[:-1] + bytes([true[-1] ^ 1]),
    "another count in the trailer": true[:-33] + bytes([true[-33] ^ 2]) + true[-32:],
    "another name in a header": true.replace(b"alice", b"alicf"),
    "a block of no records": by_hand((struct.pack(">II", 0, 0), b"")),
    "more origins than records": by_hand((header(1, [0, 0], [0], "a\nb\nc"), body)),
    "an origin that no record has": by_hand((header(2, [0, 0], [0, 0], "a\nb\nc\nd"), body * 2)),
    "origins that are not in order of their first record": by_hand((header(2, [0, 0], [1, 0], "a\nb\nc\nd"), body * 2)),
    "the same origin twice": by_hand((header(2, [0, 0], [0, 1], "a\na\nc\nd"), body * 2)),
    "a place behind the last origin": by_hand((header(1, [0], [1], "a\nc"), body)),
    "a lineage that is not sorted": by_hand((header(1, [2], [0], "a\nz\nb\nc"), body)),
    "a lineage with a peer twice": by_hand((header(1, [2], [0], "a\nb\nb\nc"), body)),
    "a line end behind the names": by_hand((header(1, [0], [0], "a\nc\n"), body)),
    "a name too few": by_hand((header(1, [0], [0], "a"), body)),
    "signatures over the end": by_hand((header(1, [0], [0], "a\nc", signed=100), body)),
    "a header that ends within a column": by_hand((header(1, [0], [0], "")[:-1], body)),
}


def main() -> None:
    bundles = []
    for name, (description, records) in BUNDLES.items():
        stream = stream_of(records)
        (HERE / name).write_bytes(stream)
        about = {"file": name, "description": description, "sha256": hashlib.sha256(stream).hexdigest()}
        listed = {"records": [described(record) for record in records]} if len(records) < 100 else {}
        bundles.append({**about, "count": len(records), **listed})
    whole = {
        "hmac_sha256_keys": {peer: key.hex() for peer, key in KEYS.items()},
        "bundles": bundles,
        "refused": [{"description": what, "stream": stream.hex()} for what, stream in REFUSED.items()],
    }
    (HERE / "bundle.json").write_text(json.dumps(whole, indent=1) + "\n", "ascii")


if __name__ == "__main__":
    main()
