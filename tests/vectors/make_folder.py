"""Makes `folder.json` and `folder-v1/` beside it: `PYTHONPATH=src python tests/vectors/make_folder.py`.

They are golden: what this writes may change only with the version of the layout.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from artdag_fed import Federation, Record, hmac_signer, import_, node, run
from artdag_fed.transports.folder import fetcher, publish
from artdag_fed.transports.folder_layout import LOCK, Entry

HERE = Path(__file__).parent
KEY = b"the key of alice"
FRAME = node("frame@1", number=7)
MIXED = node("mix@1", FRAME, weight=0.5)


def published(path: Path) -> None:
    """Publish twice: a result of alice's own, then one of bob's that rests on another peer, and one made of it."""
    sign = hmac_signer(KEY)
    alice = run(Federation(), FRAME, lambda op, inputs, params: [params["number"], 2.5]).federation
    publish(alice, "alice", path, sign=sign)
    alice.cache["free-form"] = "text ä"
    foreign = [Record("from-bob", b"\x00\xff" * 4, "bob", {"@studio@artdag.example"})]
    alice = import_(alice, foreign, {"bob"}.__contains__)
    alice = run(alice, MIXED, lambda op, inputs, params: {"mixed": inputs[0]}).federation
    publish(alice, "alice", path, sign=sign)
    (path / LOCK).unlink()


def described(path: Path) -> dict[str, object]:
    records = []
    for record in fetcher({"alice": path})("alice"):
        lineage, recipe, signed = sorted(record.lineage), bool(record.recipe), bool(record.signature)
        claim = Entry.of(record.cid, record.digest, lineage, recipe=recipe, signed=signed).claim
        records.append(
            {
                "cid": record.cid,
                "digest": record.digest,
                "lineage": lineage,
                "recipe": recipe,
                "signed": signed,
                "claim": claim,
            }
        )
    return {"folder": "folder-v1", "peer": "alice", "hmac_sha256_key": KEY.hex(), "records": records}


def main() -> None:
    path = HERE / "folder-v1"
    if path.exists():
        sys.exit(f"{path} is there: remove it first, if the version of the layout is another one")
    with tempfile.TemporaryDirectory(dir=HERE) as made:
        published(Path(made) / "folder-v1")
        (Path(made) / "folder-v1").rename(path)
    (HERE / "folder.json").write_text(json.dumps(described(path), indent=1) + "\n", "ascii")


if __name__ == "__main__":
    main()
