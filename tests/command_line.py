"""The command line in this process: a call that is held to its promises, and an instance to call it on.

Rules: `call` runs `main` with its streams captured; every error is one line that begins with the program's name. A test
module takes the fixtures by naming them at its top.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import artdag_fed
from artdag_fed import Federation, Record, export, import_, node, write_bundle
from artdag_fed.__main__ import main
from artdag_fed.cache import Changes, Entry, Origin
from artdag_fed.cli_arguments import PULL_TOKEN, SERVE_TOKEN
from artdag_fed.instance import cache_of

NODE = node("load@1", n=1)
KEY = b"32 random bytes, known to both ."
TRUST = ["--trust", "alice"]


class Said(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Call = Callable[..., Said]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Call:
    """Runs the command line in an empty folder, and holds it to its promises."""
    monkeypatch.chdir(tmp_path)
    for variable in (PULL_TOKEN, SERVE_TOKEN):
        monkeypatch.delenv(variable, raising=False)

    def call(*argv: str) -> Said:
        said = Said(main(argv), *capfd.readouterr())
        for line in said.err.splitlines():
            assert line.startswith("artdag_fed: ") and line.isprintable(), said.err
        assert said.out.isascii() and all(line.isprintable() for line in said.out.splitlines()), said.out
        assert bool(said.err) == (said.code != 0), said
        return said

    return call


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance: one result that took 2.5 s, one put there, one that came from bob and rests on carol."""
    path = tmp_path_factory.mktemp("template") / "alice"
    fed = artdag_fed.open(path)
    made = Record(NODE.cid, [1], "alice")
    entry = Entry(NODE.cid, Origin(None), made.digest, made.payload, None, False, NODE.recipe, seconds=2.5)
    cache_of(fed).commit(Changes(put=cache_of(fed).stage([entry])))
    fed.cache["frame"] = b"pixels" * 10_000
    fed = import_(fed, [Record("grade", 0.5, "bob", lineage=frozenset({"carol"}))], {"bob"}.__contains__)
    fed.cache.close()  # type: ignore[attr-defined]  # it has one
    return path


@pytest.fixture
def alice(call: Call, template: Path) -> Federation:
    """A copy of that one, in the folder `alice`."""
    return artdag_fed.open(shutil.copytree(template, "alice"))


@pytest.fixture
def bundle(alice: Federation) -> str:
    """A bundle file of three records of alice's."""
    with open("alice.bundle", "wb") as file:
        write_bundle(file, export(alice, "alice"))
    return "alice.bundle"


def written(name: str, *records: Record) -> str:
    with open(name, "wb") as file:
        write_bundle(file, records)
    return name


def refused(said: Said, code: int, *words: str) -> None:
    """It said nothing but one line, with these words, and ended so."""
    assert (said.code, said.out, said.err.count("\n")) == (code, "", 1), said
    assert all(word in said.err for word in words), said.err
