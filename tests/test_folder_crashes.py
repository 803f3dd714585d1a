"""An instance in a folder: publishers that fail, are killed or work at the same time leave one whole offer."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artdag_fed import Federation, Record, TransportError, import_, invalidate
from artdag_fed.transports import folder as module
from artdag_fed.transports.folder import publish
from tests.folders import alice, files, manifest, offered
from tests.instances import everyone


def step(fed: Federation, i: int) -> Federation:
    """One of three kinds of change: something new, something changed, something withdrawn."""
    fed.cache[f"new{i}"] = f"new {i}"
    fed.cache["c1"] = f"changed {i}"
    return invalidate(fed, f"peer{i}")


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("after", [False, True], ids=["failing", "failing after it was done"])
def test_a_publisher_that_fails_at_any_call_leaves_the_old_offer_or_the_new_one(
    drive: Path, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    fed = import_(alice(10), [Record(f"p{i}", i, f"peer{i}") for i in range(200)], everyone)
    publish(fed, "alice", drive)
    names = ("open", "replace", "fsync", "unlink", "listdir")
    real = {name: getattr(os, name) for name in names}
    at = failures = 0
    while True:
        fed = step(fed, at)
        calls = 0

        def failing(name: str, *args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at + 1:  # noqa: B023  # called in this round alone
                if after:
                    real[name](*args, **kwargs)
                raise OSError(errno.ENOSPC, "no space left")
            return real[name](*args, **kwargs)

        before, new = offered(drive), {cid: fed.cache[cid] for cid in fed}
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(os, name, lambda *args, _name=name, **kwargs: failing(_name, *args, **kwargs))
            try:
                publish(fed, "alice", drive)
            except TransportError as error:
                assert "no space left" in str(error)
                failures += 1
        assert offered(drive) in (before, new), at
        if calls <= at:
            break
        at += 1
    assert offered(drive) == new and failures > 10
    named = {one["bundle"] + ".bundle" for one in manifest(drive)["segments"]}
    assert set(files(drive, ".bundle")) == named and not any(name.startswith(".") for name in files(drive))


def _killed_at(path: Path, at: int, seed: int) -> None:
    """A child that kills itself at its `at`-th system call that changes the folder, before or after it."""
    module.SEGMENT_RECORDS = 4
    left = at
    dice = random.Random(seed)

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0 and dice.random() < 0.5:
                os.kill(os.getpid(), signal.SIGKILL)
            done = real(*args, **kwargs)
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    for name in ("open", "replace", "fsync", "unlink"):
        setattr(os, name, dying(getattr(os, name)))
    publish(Federation({f"c{i}": f"{seed}.{i}" for i in range(10)}), "alice", path)


def _killed_at_every_call(path: Path) -> None:
    """Publish again and again in a child that is killed one system call later each time, until one gets to its end."""
    module.SEGMENT_RECORDS = 4
    old = {f"c{i}": f"result {i}" for i in range(10)}
    publish(Federation(dict(old)), "alice", path)
    seen, at = set(), 0
    while (0, True) not in seen:
        child = os.fork()
        if not child:
            _killed_at(path, at, at)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        now, new = offered(path), {f"c{i}": f"{at}.{i}" for i in range(10)}
        assert now in (old, new), at
        seen.add((status, now == new))
        old, at = now, at + 1
    assert seen == {(-signal.SIGKILL, False), (-signal.SIGKILL, True), (0, True)} and at > 20, (seen, at)


def _publishing(path: Path, me: int, until: float) -> None:
    module.SEGMENT_RECORDS = 4
    i = 0
    while time.monotonic() < until or not i:
        i += 1
        publish(Federation({f"c{n}": f"{me}.{i}" for n in range(10)}), "alice", path)


def other_process(call: str) -> subprocess.Popen[str]:
    """A process of its own, without threads, that makes this call in this module."""
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'src'}"}
    script = f"from pathlib import Path; from tests import test_folder_crashes; test_folder_crashes.{call}"
    return subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.usefixtures("small")
def test_a_publisher_that_is_killed_leaves_the_old_offer_or_the_new_one(drive: Path) -> None:
    child = other_process(f"_killed_at_every_call(Path({str(drive)!r}))")
    assert (child.communicate(timeout=120)[1], child.returncode) == ("", 0)
    publish(alice(10), "alice", drive)
    named = {one["bundle"] + ".bundle" for one in manifest(drive)["segments"]}
    assert set(files(drive, ".bundle")) == named and not any(name.startswith(".") for name in files(drive))


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_two_publishers_and_readers_at_once_see_whole_offers_alone(drive: Path) -> None:
    publish(alice(10), "alice", drive)
    until = time.monotonic() + 3
    children = [other_process(f"_publishing(Path({str(drive)!r}), {me}, {until})") for me in range(2)]
    whole = missed = 0
    while any(child.poll() is None for child in children):
        try:
            values = {str(value).split(".")[0] + str(value).split(".")[-1] for value in offered(drive).values()}
            assert len(values) in (1, 10), values  # one offer, of one publisher
            whole += 1
        except TransportError as error:
            assert "try again" in str(error)
            missed += 1
    for child in children:
        assert (child.communicate()[1], child.returncode) == ("", 0)
    assert whole > 0 and len(set(offered(drive).values())) == 1


def test_where_files_cannot_be_locked_the_last_one_wins(drive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    publish(alice(3), "alice", drive)
    (drive / ("0" * 64 + ".bundle")).write_text("what another one is about to name")
    assert publish(Federation({"c0": "other"}), "alice", drive) == 1
    assert offered(drive) == {"c0": "other"} and len(files(drive, ".bundle")) == 2
