"""`python -m tests.bench [name ...] [--rounds N] [--small]`: the durable cache beside plain `sqlite3` and `json`.

"Plain" is the `sqlite3` module with one transaction, WAL, synchronous NORMAL, default cache and page size, and a
`WITHOUT ROWID` table keyed by text: what one would write who needs neither trust nor provenance nor digests.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))

import artdag_fed
from artdag_fed import Dag, Event, Node, Record, challenge, export, import_, invalidate, node, plan, run
from artdag_fed.cache import Changes, Entry, Origin
from artdag_fed.caches.disk import DiskCache
from artdag_fed.codec import DEFAULT
from tests.bench.measure import Round, ratio


def cid(i: int) -> str:
    return hashlib.sha256(b"%d" % i).hexdigest()


def plain_db(folder: Path) -> sqlite3.Connection:
    db = sqlite3.connect(folder / "plain.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=NORMAL")
    db.execute("CREATE TABLE IF NOT EXISTS kv (k TEXT PRIMARY KEY, v BLOB) WITHOUT ROWID")
    return db


def plain_put(folder: Path, rows: Iterable[tuple[str, bytes]]) -> sqlite3.Connection:
    db = plain_db(folder)
    db.execute("BEGIN")
    db.executemany("INSERT OR REPLACE INTO kv VALUES (?, ?)", rows)
    db.execute("COMMIT")
    return db


# --- import -------------------------------------------------------------------------------------


def importing(count: int, size: int) -> tuple[Round, Round]:
    rows = [(cid(i), DEFAULT.encode(os.urandom(size - 1))) for i in range(count)]
    digests = [hashlib.sha256(payload).hexdigest() for _, payload in rows]

    def ours(folder: Path) -> Callable[[], object]:
        # As they come from a wire: bytes and the digest that their sender declares, both unchecked.
        bundle = [Record.encoded(c, payload, d, "alice") for (c, payload), d in zip(rows, digests, strict=True)]
        return lambda: import_(artdag_fed.open(folder / "cache"), bundle, {"alice"}.__contains__)

    return ours, lambda folder: lambda: plain_put(folder, rows)


# --- invalidate ---------------------------------------------------------------------------------


def fill(cache: DiskCache, total: int, alices: int, *, derived: bool) -> None:
    """`total` local results; of `alices` of them, alice is the peer, or they are local and rest on her."""
    local, hers = Origin(None), Origin(None, frozenset({"alice"})) if derived else Origin("alice")
    entries = (
        Entry(cid(i), hers if i < alices else local, hashlib.sha256(b"Jnull").hexdigest(), b"Jnull", None, False)
        for i in range(total)
    )
    cache.commit(Changes(put=cache.stage(entries)))


def invalidating(*, derived: bool, total: int, alices: int, rounds: int, at_most: float) -> None:
    """Rounds on one instance: alice's results are put back between them, outside the timing."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "cache"
        fed = artdag_fed.open(folder)
        cache = cast(DiskCache, fed.cache)
        fill(cache, total, alices, derived=derived)
        marks, commits = [], []
        for i in range(rounds):
            committed: list[float] = []

            def told(event: Event, committed: list[float] = committed) -> None:
                if event.kind == "withdrawn":
                    committed.append(time.perf_counter())

            began = time.perf_counter()
            after = invalidate(fed, "alice", derived=derived, observe=told)
            marks.append(committed[0] - began)
            assert after.report.dropped == alices, after.report
            while cache.purge():
                pass
            began = time.perf_counter()
            fed.cache[f"one-{i}"] = i
            commits.append(time.perf_counter() - began)
            fill(cache, total, alices, derived=derived)
        found = statistics.median(marks) / statistics.median(commits)
        what = "derived" if derived else "not derived"
        verdict = "" if found <= at_most else "   <-- above"
        print(
            f"invalidate ({what}), mark committed, {alices:,} of {total:,} / a one-row commit\n"
            f"    mark {statistics.median(marks) * 1e3:.2f} ms, commit {statistics.median(commits) * 1e3:.2f} ms:"
            f" {found:.2f} (at most {at_most}){verdict}",
            flush=True,
        )


# --- nodes --------------------------------------------------------------------------------------


def making_nodes(count: int) -> tuple[Round, Round]:
    first, second = node("load@1", path="a.png"), node("load@1", path="b.png")
    content = [first.cid, second.cid]

    def ours() -> None:
        for i in range(count):
            node("blur@1", first, second, radius=i, mode="gauss", wrap=True)

    def plain() -> None:
        for i in range(count):
            params = {"radius": i, "mode": "gauss", "wrap": True}
            text = json.dumps({"op": "blur@1", "inputs": content, "params": params}, sort_keys=True)
            hashlib.sha256(text.encode()).hexdigest()

    return lambda folder: ours, lambda folder: plain


# --- run ----------------------------------------------------------------------------------------


def add(op: str, inputs: tuple[Any, ...], params: Any) -> Any:
    return {"n": params["n"], "of": len(inputs)}


def nodes(count: int) -> list[Node]:
    made: list[Node] = []
    for i in range(count):
        made.append(node("add@1", *made[-1:], n=i) if i % 10 else node("add@1", n=i))
    return made


def cold(count: int) -> tuple[Round, Round]:
    made = nodes(count)
    dag = Dag(*made)

    def ours(folder: Path) -> Callable[[], object]:
        return lambda: run(artdag_fed.open(folder / "cache"), dag, add)

    bare = [(one.cid, one.op, [i.cid for i in one.inputs], dict(one.params)) for one in made]

    def plain(folder: Path) -> Callable[[], object]:
        def timed() -> object:
            rows, results = [], {}
            for key, op, inputs, params in bare:
                result = results[key] = add(op, tuple([results[i] for i in inputs]), params)
                rows.append((key, json.dumps(result).encode()))
            return plain_put(folder, rows), results

        return timed

    return ours, plain


def warm(count: int, *, wanted: int) -> tuple[Round, Round]:
    made = nodes(count)
    dag = Dag(*made) if wanted > 1 else made[-1]
    keys = [one.cid for one in (made if wanted > 1 else made[-1:])]

    def ours(folder: Path) -> Callable[[], object]:
        with_all = artdag_fed.open(folder / "cache")
        run(with_all, Dag(*made), add)
        cast(DiskCache, with_all.cache).close()

        def timed() -> object:
            done = run(artdag_fed.open(folder / "cache"), dag, add)
            assert not done.computed
            return done

        return timed

    def plain(folder: Path) -> Callable[[], object]:
        plain_put(folder, [(one.cid, json.dumps(add(one.op, one.inputs, one.params)).encode()) for one in made]).close()

        def timed() -> object:
            db = sqlite3.connect(folder / "plain.db", isolation_level=None)
            if wanted == 1:
                return db, json.loads(db.execute("SELECT v FROM kv WHERE k = ?", keys).fetchone()[0])
            select = "SELECT k, v FROM kv WHERE k IN (SELECT value FROM json_each(?))"
            return db, {k: json.loads(v) for k, v in db.execute(select, (json.dumps(keys),))}

        return timed

    return ours, plain


def challenging(count: int) -> tuple[Round, Round]:
    made = nodes(count)
    dag = Dag(*made)

    def ours(folder: Path) -> Callable[[], object]:
        alice = run(artdag_fed.open(), dag, add).federation
        fed = import_(artdag_fed.open(folder / "cache"), export(alice, "alice"), {"alice"}.__contains__)

        def timed() -> object:
            found = challenge(fed, add)
            assert len(found.confirmed) == count, found
            return found

        return timed

    return ours, lambda folder: lambda: run(artdag_fed.open(folder / "cache"), dag, add)


# --- displays -----------------------------------------------------------------------------------


def displaying(count: int, results: int, rounds: int) -> None:
    """What a notebook asks for, of `count` nodes and of an instance with `results`: milliseconds and bytes."""
    leaves = [node("add@1", n=n) for n in range(count - 1)]
    fan = Dag(node("add@1", *leaves, n=-1))
    with tempfile.TemporaryDirectory() as name:
        fed = artdag_fed.open(Path(name) / "cache")
        fill(cast(DiskCache, fed.cache), results, results // 10, derived=False)
        shown: list[Any] = [fan, plan(fed, fan), run(artdag_fed.open(), fan, add), fed]
        for value in shown:
            for show in (repr, lambda value: value._repr_html_()):
                times, text = [], ""
                for _ in range(rounds):
                    began = time.perf_counter()
                    text = show(value)
                    times.append(time.perf_counter() - began)
                milliseconds = 1e3 * statistics.median(times)
                verdict = "" if milliseconds < 200 and len(text) < 100_000 else "   <-- above"
                what = f"{type(value).__name__} of {results if value is fed else count:,}"
                said = f"{'repr' if show is repr else 'html'} {milliseconds:.2f} ms, {len(text):,} bytes"
                print(f"{what}: {said} (below 200 ms, 100 kB){verdict}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument(
        "names", nargs="*", help="import, blobs, invalidate, node, cold, warm, target, challenge, displays"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="a twentieth of the size: does it work?")
    asked = parser.parse_args()
    rounds = asked.rounds

    def n(count: int) -> int:
        return max(count // 20, 10) if asked.small else count

    def wants(name: str) -> bool:
        return not asked.names or name in asked.names

    if wants("import"):
        ratio("import of 100,000 records of 200 B", *importing(n(100_000), 200), 0.9, rounds)
    if wants("blobs"):
        ratio("import of 500 records of 1 MB", *importing(n(500), 1_000_000), 0.3, rounds)
    if wants("invalidate"):
        for derived in (False, True):
            invalidating(derived=derived, total=n(1_000_000), alices=n(100_000), rounds=max(rounds, 3), at_most=2)
    if wants("node"):
        ratio("10,000 node(...) calls", *making_nodes(n(10_000)), 1.2, 3 * rounds)
    if wants("cold"):
        ratio("cold run of 10,000 trivial nodes, durable", *cold(n(10_000)), 2.2, 2 * rounds)
    if wants("warm"):
        all_wanted = warm(n(10_000), wanted=n(10_000))
        ratio("warm run, all 10,000 results wanted, opening included", *all_wanted, 1.4, 3 * rounds)
    if wants("target"):
        one_wanted = warm(n(10_000), wanted=1)
        ratio("warm run, one held target of a 10,000-node DAG, opening included", *one_wanted, 2, 5 * rounds)
    if wants("challenge"):
        what = "challenge of 10,000 imported trivial results, durable / a cold run of them"
        ratio(what, *challenging(n(10_000)), 2, 2 * rounds)
    if wants("displays"):
        displaying(n(100_000), n(1_000_000), rounds)


if __name__ == "__main__":
    main()
