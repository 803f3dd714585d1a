"""The story that the README's first command tells: it runs, its numbers are the promised ones, its pictures real."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STORY = ROOT / "docs" / "two_studios.py"
A, B = (
    34,
    4,
)  # the nodes of the strip (a valley, 8 frames of 4 steps, the strip), and of B's countdown (3 frames, a strip)


def tell(*arguments: object, path: str = str(ROOT / "src")) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": path}
    command = [sys.executable, str(STORY), *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(folder, what was printed) of one telling."""
    folder = tmp_path_factory.mktemp("story") / "new"
    done = tell(folder)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return folder, done.stdout


def chapter(printed: str, number: int) -> str:
    """What was printed under one numbered heading, heading included."""
    found = re.search(rf"^{number}\. .*?(?=^\d\. |^$|\Z)", printed, re.MULTILINE | re.DOTALL)
    assert found is not None, printed
    return found[0]


def size_and_colours(path: Path) -> tuple[int, int, int]:
    """(width, height, number of colours) of an 8-bit RGB PNG whose chunks are whole and whose lines are unfiltered."""
    data, chunks = path.read_bytes(), {}
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length]) == (zlib.crc32(kind + body),)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert form == [8, 2, 0, 0, 0]
    lines = zlib.decompress(chunks[b"IDAT"])
    assert len(lines) == height * (1 + 3 * width) and not any(lines[:: 1 + 3 * width])
    pixels = b"".join(lines[y * (1 + 3 * width) + 1 : (y + 1) * (1 + 3 * width)] for y in range(height))
    return width, height, len(set(zip(pixels[::3], pixels[1::3], pixels[2::3], strict=True)))


def test_studio_a_computes_everything_once(told: tuple[Path, str]) -> None:
    assert f"{A} computed, 0 reused" in chapter(told[1], 1)
    assert f"{B} computed, 0 reused" in chapter(told[1], 2)


def test_what_was_pulled_is_not_computed_again(told: tuple[Path, str]) -> None:
    assert f"{A} results admitted, 0 rejected" in chapter(told[1], 3)
    assert re.search(r"^   0 computed, \d+ reused", chapter(told[1], 4), re.MULTILINE)
    assert "the same, byte for byte" in chapter(told[1], 4)


def test_another_last_step_computes_only_what_changed(told: tuple[Path, str]) -> None:
    assert "9 computed, as planned, 8 reused" in chapter(told[1], 5)  # the look of 8 frames, and the strip of them


def test_withdrawing_trust_takes_what_came_from_the_peer_and_what_was_built_on_it(told: tuple[Path, str]) -> None:
    ending = chapter(told[1], 6)
    assert f"{A + 9} of {A + 9 + B} results dropped, {B} left" in ending
    assert "resting on A: 0 left" in ending and "all of it still there" in ending


def test_the_same_picture_comes_out_without_the_peer(told: tuple[Path, str]) -> None:
    assert f"{A} computed, 0 reused" in chapter(told[1], 7)
    assert "the same, byte for byte" in chapter(told[1], 7) and "NOT" not in told[1]
    folder = told[0]
    assert (folder / "strip-by-b-alone.png").read_bytes() == (folder / "strip-by-a.png").read_bytes()


def test_the_pictures_it_names_are_there_and_are_pictures(told: tuple[Path, str]) -> None:
    folder, printed = told
    named = [Path(line.strip()) for line in printed.splitlines()[-2:]]
    assert [path.parent for path in named] == [folder, folder]
    for path in named:
        width, height, colours = size_and_colours(path)
        assert (width, height) == (1000, 350) and colours > 1000
    assert named[0].read_bytes() != named[1].read_bytes()


def test_the_story_fits_on_a_screen(told: tuple[Path, str]) -> None:
    lines = told[1].splitlines()
    assert 20 <= len(lines) <= 40 and max(len(line) for line in lines[:-2]) <= 100


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = tell(tmp_path)
    assert done.returncode == 1 and "not an empty folder" in done.stderr and len(done.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_without_the_library_it_says_in_one_line_how_to_run_it(tmp_path: Path) -> None:
    (tmp_path / "artdag_fed.py").write_text("raise ImportError('not here')")  # also where the library is installed
    done = tell(path=str(tmp_path))
    assert done.returncode == 1 and "PYTHONPATH=src python3 docs/two_studios.py" in done.stderr
    assert len(done.stderr.splitlines()) == 1
