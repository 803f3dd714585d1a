"""A bundle far larger than memory is imported in the memory of one block.

`BUNDLE_MB` in the environment says how large the large one is (2,000 unless set). It exists nowhere: it is made as it
is read. What grows is the resident memory of a process of its own, at its peak, as the kernel counts it; that process
is this file, run as `python tests/test_bundle_memory.py folder records`.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import artdag_fed
from artdag_fed import Record, import_, read_bundle
from artdag_fed.bundle import MAGIC
from artdag_fed.bundle_header import Block, write_header

SIZE = 1_000_000
MOST_MIB = 32
STATUS = Path("/proc/self/status")

needs_proc = pytest.mark.skipif(not STATUS.exists(), reason="reads the peak memory of a process from /proc")


class Stream:
    """A bundle of `count` records of 1 MB, each with other bytes, made as it is read."""

    def __init__(self, name: str, count: int) -> None:
        self._pieces = self._made(name, count)
        self._left = memoryview(b"")

    def _made(self, name: str, count: int) -> Iterator[bytes]:
        noise = os.urandom(SIZE - 9)
        checked = hashlib.sha256(MAGIC)
        yield MAGIC
        for i in range(count):
            payload = b"B" + i.to_bytes(8, "big") + noise
            block = Block()
            block.fill(iter([Record.encoded(f"{name}{i}", payload, hashlib.sha256(payload).hexdigest(), "alice")]))
            head = write_header(block)
            prefixed = len(head).to_bytes(4, "big") + head
            checked.update(prefixed)
            yield prefixed
            yield payload
        end = bytes(4) + count.to_bytes(8, "big")
        checked.update(end)
        yield end + checked.digest()

    def read(self, size: int) -> bytes:
        if not self._left:
            self._left = memoryview(next(self._pieces, b""))
        given, self._left = bytes(self._left[:size]), self._left[size:]
        return given


def peak() -> int:
    """The most resident memory that this process ever had, in KiB."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))


def main(folder: str, count: int) -> None:
    fed = import_(artdag_fed.open(folder), read_bundle(Stream("warm", 20)), {"alice"}.__contains__)
    before = peak()
    fed = import_(fed, read_bundle(Stream("c", count)), {"alice"}.__contains__)
    assert fed.report.admitted == count, fed.report
    print(peak() - before)


def grown(count: int) -> float:
    """MiB by which the peak of a process grows when it imports `count` records of 1 MB instead of 20."""
    with tempfile.TemporaryDirectory() as folder:  # not `tmp_path`, which would stay: it is 2 GB
        done = subprocess.run(
            [sys.executable, __file__, f"{folder}/cache", str(count)],
            env={**os.environ, "PYTHONPATH": str(Path(artdag_fed.__file__).parent.parent)},
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    mib = int(done.stdout) / 1024
    print(f"a bundle of {count:,} MB: the peak grew by {mib:.1f} MiB")
    return mib


@needs_proc
def test_a_bundle_three_times_the_bound_is_imported_within_it() -> None:
    assert grown(100) < MOST_MIB


@needs_proc
@pytest.mark.slow
def test_a_bundle_of_gigabytes_is_imported_in_the_memory_of_a_block() -> None:
    assert grown(int(os.environ.get("BUNDLE_MB", "2000"))) < MOST_MIB


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
