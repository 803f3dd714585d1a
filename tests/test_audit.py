"""No foreign byte runs: an audit hook sees nothing unpickled, compiled, executed, imported or started.

The hook (`sys.addaudithook`) cannot be taken out again, so everything happens in a process of its own, which is this
file, run as `python tests/test_audit.py folder`; it prints JSON. Every verb is called once before the hook looks, with
a bundle that is fine: what is imported when it is first used is imported then, and no byte has a say in it. Then come
that bundle again, every bad input of `tests/corpus` that is bytes, mutants of them, and noise. At last a codec is given
a rule that does what it must not, once for each thing, and the hook has to tell.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import marshal
import os
import pickle
import random
import subprocess
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import artdag_fed
from artdag_fed import Codec, CodecError, Federation, FederationError, Record, import_, node, pull, read_bundle, run
from artdag_fed.bundle import write_bundle
from artdag_fed.federation import forget
from artdag_fed.signing import hmac_signer, hmac_verifier

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = (
    *("pickle.", "marshal.", "exec", "compile", "import", "code.__new__", "function.__new__", "cpython.", "ctypes."),
    *("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.startfile", "pty."),
)
"""What the names of the events begin with (https://docs.python.org/3/library/audit_events.html)."""

KEY = bytes(range(32))
VALUES: tuple[Any, ...] = (
    *({"a": [1, 2.5, None]}, b"raw", (1, bytearray(b"x")), {1, "a"}, 1 << 70, float("nan"), Decimal("1.50")),
    *(Fraction(1, 3), datetime(2024, 1, 2, tzinfo=timezone(timedelta(hours=1))), np.arange(6.0), np.float32(1)),
)
MUTANTS = 200  # of each kind of bytes
NOISE = 50
STEPS = tuple(node("load@1", step=i) for i in range(16))


class Watch:
    """The hook: what it saw while it looked."""

    def __init__(self) -> None:
        self.looks = False
        self.events = Counter[str]()
        self.wrong: list[str] = []
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.looks:
            self.events[event] += 1
            if event.startswith(FORBIDDEN):
                self.wrong.append(event)

    @contextlib.contextmanager
    def looking(self) -> Iterator[None]:
        self.looks = True
        try:
            yield
        finally:
            self.looks = False


# --- foreign bytes --------------------------------------------------------------------------


def bundle_of(records: Iterable[Record]) -> bytes:
    stream = io.BytesIO()
    write_bundle(stream, records)
    return stream.getvalue()


def signed() -> bytes:
    """A bundle without a fault: a value of each kind, each the result of one of `STEPS`, with its recipe."""
    made = zip(STEPS, VALUES, strict=False)
    sign = hmac_signer(KEY)
    return bundle_of(Record(s.cid, v, "alice", {"carol"}, s.recipe).signed(sign) for s, v in made)


def carrying(payload: bytes) -> bytes:
    """A bundle with a payload, whatever is in it, as what the first of `STEPS` gave."""
    return bundle_of([Record.encoded(STEPS[0].cid, payload, hashlib.sha256(payload).hexdigest(), "alice")])


def foreign() -> dict[str, list[bytes]]:
    """Streams by what they are."""
    from tests.fuzz import bundles, payloads, seeds

    def raw(data: bytes, most: int) -> bytes:
        return data[: rng.randrange(len(data) + 1)] + rng.randbytes(3)

    def mutants(known: list[bytes], mutate: Callable[..., bytes]) -> Iterator[bytes]:
        for seed in range(MUTANTS):
            known.append(mutate(rng.choice(known), seeds.LONGEST, seed, raw))
            yield known[-1]

    rng = random.Random(7)
    whole, values = list(seeds.of("bundle")), list(seeds.of("codec"))
    magic = b"artdag-fed bundle v1\n"
    pickled = [pickle.dumps(os.system), pickle.dumps(print, 0), marshal.dumps(compile("1", "x", "eval"))]
    codes = [*pickled, *(kind + code for kind in (b"J", b"B", b"T", b"P") for code in pickled), b"J__import__('os')"]
    return {
        "signed": [signed()],
        "bundles": whole,
        "payloads": [carrying(value) for value in values],
        "code": [*pickled, *map(carrying, codes)],
        "mutants": [*mutants(whole[:], bundles.mutated), *map(carrying, mutants(values[:], payloads.mutated))],
        "noise": [start + rng.randbytes(rng.randrange(400)) for _ in range(NOISE) for start in (b"", magic)],
    }


# --- what is done with them -----------------------------------------------------------------


def everyone(peer: str) -> bool:
    return True


def names(op: str, inputs: tuple[Any, ...], params: object) -> list[str]:
    return [type(value).__name__ for value in inputs]


def called(fed: Federation, stream: bytes, counts: Counter[str]) -> None:
    """Import, pull, read and run, of one stream; the instance is empty again after it."""

    def fetch(peer: str) -> Iterable[Record]:
        return read_bundle(io.BytesIO(stream))

    counts["streams"] += 1
    for take in (
        lambda: pull(fed, fetch, "alice", everyone, verify=hmac_verifier({"alice": KEY})),
        lambda: pull(fed, fetch, "alice", everyone),
        lambda: import_(fed, fetch("alice"), everyone),
    ):
        try:
            report = take().report
        except FederationError:
            counts["refused"] += 1
        else:
            counts["admitted"] += report.admitted
            counts["rejected"] += sum(report.rejected.values())
    held = tuple(fed)
    for cid in held:
        with contextlib.suppress(CodecError):  # on disk, where it is kept as the bytes that it came as
            counts["read"] += fed.cache.get(cid) is not None
    done = run(fed, node("names@1", *STEPS[:2]), steps(names))
    counts["run"] += 1
    counts["reused"] += len(done.reused)
    forget(fed, tuple(fed))


def steps(runner: Callable[..., Any]) -> Callable[..., Any]:
    """What computes a step that did not come from outside, too."""
    return lambda op, inputs, params: "computed here" if op == "load@1" else runner(op, inputs, params)


# --- what has to be told --------------------------------------------------------------------


class Planted:
    """A type whose rule does what it must not."""


def fork() -> None:
    if not os.fork():
        os._exit(0)


PLANTED: dict[str, Callable[[], object]] = {
    "pickle.find_class": lambda: pickle.loads(b"cbuiltins\nprint\n."),
    "marshal.loads": lambda: marshal.loads(b"N"),  # noqa: S302  # wrong on purpose, as is the next
    "compile": lambda: compile("1", "planted", "eval"),
    "exec": lambda: eval("1"),  # noqa: S307
    "import": lambda: (sys.modules.pop("colorsys", None), __import__("colorsys")),
    "function.__new__": lambda: types.FunctionType(fork.__code__, {}),
    "code.__new__": lambda: fork.__code__.replace(co_name="planted"),
    "subprocess.Popen": lambda: subprocess.run(["true"], check=True),
    "os.system": lambda: os.system("true"),
    "os.posix_spawn": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
    "os.fork": fork,
    "os.exec": lambda: os.execv("/nowhere", ["nowhere"]),
}


def doing(wrong: Callable[[], object]) -> Callable[[object], Planted]:
    """How a type is decoded: by doing that."""

    def decode(value: object) -> Planted:
        wrong()
        return Planted()

    return decode


def planted(watch: Watch, folder: Path) -> dict[str, list[str]]:
    """For each thing that must not be done, what the hook saw when a rule did it while a foreign result was read."""
    told = {}
    payload = Codec().with_type("planted", Planted, lambda v: None, lambda v: Planted()).encode(Planted())
    for name, wrong in PLANTED.items():
        codec = Codec().with_type("planted", Planted, lambda v: None, doing(wrong))
        for path in (None, folder / name):
            fed = artdag_fed.open(path, codec=codec)
            watch.wrong.clear()
            with watch.looking():
                called(fed, carrying(payload), Counter())
            told[f"{name} {'in memory' if path is None else 'on disk'}"] = watch.wrong[:]
    return told


def main(folder: Path) -> None:
    streams, watch, told = foreign(), Watch(), dict[str, Any]()
    for name, path in (("memory", None), ("disk", folder / "instance")):
        fed, counts = artdag_fed.open(path), {kind: Counter[str]() for kind in streams}
        called(fed, streams["signed"][0], Counter())
        with watch.looking():
            for kind, some in streams.items():
                for stream in some:
                    called(fed, stream, counts[kind])
        told[name] = counts
    told |= {"wrong": watch.wrong[:], "events": watch.events.copy()}
    print(json.dumps(told | {"planted": planted(watch, folder)}))


# --- the tests ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told() -> Any:
    """What that process saw."""
    search = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    # In memory where that can be had: a thousand small commits wait for a disk, and nothing here cuts the power.
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="audit-", dir=place) as folder:
        command, environ = [sys.executable, __file__, folder], os.environ | {"PYTHONPATH": search}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_is_unpickled_compiled_executed_imported_or_started_while_foreign_bytes_are_taken_in(told: Any) -> None:
    assert told["wrong"] == []


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_the_foreign_bytes_were_taken_in_read_and_run_with_while_the_hook_looked(told: Any, cache: str) -> None:
    kinds = told[cache]
    assert kinds["signed"]["admitted"] == kinds["signed"]["read"] == len(VALUES) and kinds["signed"]["reused"] == 2
    for kind in ("bundles", "payloads", "mutants", "code"):
        assert all(kinds[kind].get(outcome) for outcome in ("admitted", "rejected", "read", "run")), kinds[kind]
    assert kinds["bundles"]["refused"] and kinds["mutants"]["refused"]
    assert kinds["noise"]["refused"] == 3 * kinds["noise"]["streams"] and told["events"]


@pytest.mark.parametrize("event", PLANTED)
@pytest.mark.parametrize("cache", ["in memory", "on disk"])
def test_what_must_not_be_done_is_seen_where_a_rule_of_a_type_does_it(told: Any, event: str, cache: str) -> None:
    assert event in told["planted"][f"{event} {cache}"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
