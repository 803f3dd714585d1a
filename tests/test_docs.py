"""What is written for people is true: examples run, and say what they say; links lead somewhere.

Rules: a ```python block with `>>>` is a doctest; one without is run as written, and a line `print(...)  # x` there
prints x. The blocks of a page share their names and run from top to bottom, in a folder of their own. The ```console
blocks of the guide are one session in a shell, in a folder of its own as well.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import doctest
import html
import importlib
import io
import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from artdag_fed.cli_commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MODULES = [
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")
    for path in sorted(SRC.rglob("*.py"))
    if path.name != "__main__.py"  # a command: importing it is nobody's use of it
]
FLAGS = doctest.ELLIPSIS

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
PRINTS = re.compile(r"^\s*print\(.*\)  # (.*)$", re.MULTILINE)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """(line it starts on, text) of each fenced block in one of the languages."""
    text = page.read_text("utf-8")
    return [(text[: m.start(2)].count("\n") + 1, m[2]) for m in FENCE.finditer(text) if m[1] in languages]


def check_block(source: str, names: dict[str, Any], where: str, line: int) -> None:
    """Run one block of a page with the names made so far, and compare what it prints with what it says it prints."""
    if ">>>" in source:
        test = doctest.DocTestParser().get_doctest(source, names, where, where, line - 1)
        complaints: list[str] = []
        result = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=complaints.append, clear_globs=False)
        names.update(test.globs)
        assert result.failed == 0, "".join(complaints)
    else:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (line - 1) + source, where, "exec"), names)
        if said := PRINTS.findall(source):
            assert printed.getvalue().splitlines() == said, f"{where}:{line}"


def transcript(text: str) -> list[tuple[str, str]]:
    """(command, what it says) of a ```console block: a line after `$ `, and those up to the next."""
    parts = re.split(r"^\$ (.*)\n", text, flags=re.MULTILINE)
    assert parts[0] == "", f"a session begins with a command, not with {parts[0]!r}"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def run_in_bash(commands: list[str], folder: Path) -> list[str]:
    """What each of these commands says, in one shell; one that ends with & goes on, and is killed at the end."""
    script = ["trap 'kill $(jobs -p) 2>&-; wait' EXIT"]
    for command in commands:
        if command.endswith(" &"):  # waits until it has said a line, or is gone
            script += [
                f"{command[:-2]} > said 2>&1 &",
                "until [[ -s said ]] || ! kill -0 $!; do sleep 0.01; done; cat said",
            ]
        else:
            script += [f"(exit $code); {command}", "code=$?"]
        script.append("printf '\\0'")
    # A file and no function: one of those would leave its child behind when the shell that it runs in is killed.
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    environment = {"PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": str(SRC)}
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout.split("\0")[:-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page: Path) -> list[str]:
    broken = []
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue  # to the outside: not ours to keep, and tests need no network
        path, _, anchor = unquote(link).partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


# --- examples -------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_in_docstrings_are_true(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(importlib.import_module(module), optionflags=FLAGS)
    assert result.failed == 0, f"{result.failed} examples of {module} fail: see the output"


@every_page
def test_the_examples_on_a_page_are_true(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for line, source in blocks(page, "python", "pycon"):
        check_block(source, names, page.name, line)


def test_the_commands_of_the_guide_say_what_the_guide_says(tmp_path: Path) -> None:
    port = str(free_port())  # a fixed one may be taken: what the page calls 8000 is another here
    blocks_ = [text.replace("8000", port) for _, text in blocks(ROOT / "docs" / "guide.md", "console")]
    session = [part for text in blocks_ for part in transcript(text)]
    said = run_in_bash([command for command, _ in session], tmp_path)
    assert len(said) == len(session) > 20
    for (command, expected), found in zip(session, said, strict=True):
        assert doctest.OutputChecker().check_output(expected, found, FLAGS), f"$ {command}\n{found}"


@every_page
def test_links_to_files_lead_somewhere(page: Path) -> None:
    assert broken_links(page) == []


# --- the guide ------------------------------------------------------------------------------

GUIDE = ROOT / "docs" / "guide.md"


def test_the_contents_of_the_guide_are_its_headings_in_their_order() -> None:
    text = FENCE.sub("", GUIDE.read_text("utf-8"))
    top, *sections = re.split(r"^## (.*)\n", text, flags=re.MULTILINE)
    assert re.findall(r"^- \[(.*?)\]\(#", top, re.MULTILINE) == sections[::2]


def test_the_guide_names_the_commands_that_there_are() -> None:
    [named] = re.findall(r"The commands are ([^;]*);", GUIDE.read_text("utf-8"))
    assert re.findall(r"`(\w+)`", named) == list(COMMANDS)


# --- the README -----------------------------------------------------------------------------


def test_the_example_of_the_readme_is_short() -> None:
    [(_, example)] = blocks(ROOT / "README.md", "python")
    assert len(example.splitlines()) <= 15


def test_the_picture_in_the_readme_is_the_one_that_its_example_ends_in() -> None:
    [(_, example)] = blocks(ROOT / "README.md", "python")
    *body, last = ast.parse(example).body
    assert isinstance(last, ast.Expr), "a notebook shows what the last line gives"
    names: dict[str, Any] = {}
    exec(compile(ast.Module(body, []), "README.md", "exec"), names)
    exec(compile(f"shown = {ast.unparse(last.value)}", "README.md", "exec"), names)
    shown = names["shown"]._repr_html_()
    [(data, alt)] = re.findall(r'<img src="data:image/svg\+xml;base64,([^"]*)" alt="([^"]*)">', shown)
    [(text, path)] = re.findall(r"!\[(.*)\]\((.*\.svg)\)", (ROOT / "README.md").read_text("utf-8"))
    assert (ROOT / path).read_bytes() == base64.b64decode(data) + b"\n", f"{path} is an older picture: write it anew"
    assert text == html.unescape(alt)


def test_the_readme_has_two_commands_and_ci_runs_them_as_written() -> None:
    commands = [line for _, block in blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    assert len(commands) == 2 and commands[0] == "PYTHONPATH=src python3 docs/two_studios.py"
    # .ci/run reads them from the README with this very line, so they cannot differ.
    reading = re.search(r"^mapfile -t readme < <\((.*)\)$", (ROOT / ".ci" / "run").read_text("utf-8"), re.MULTILINE)
    assert reading is not None
    done = subprocess.run(["bash", "-c", reading[1]], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == commands


# --- the checks themselves ------------------------------------------------------------------


@pytest.mark.parametrize("source", [">>> 1 + 1\n3\n", "print(1 + 1)  # 3\n", "assert False\n"])
def test_the_check_sees_an_example_that_is_wrong(source: str) -> None:
    with pytest.raises(AssertionError):
        check_block(source, {}, "a page", 1)


def test_blocks_of_a_page_share_their_names() -> None:
    names: dict[str, Any] = {}
    check_block("a = 1\n", names, "a page", 1)
    check_block(">>> b = a + 1\n", names, "a page", 2)
    check_block("print(b)  # 2\n", names, "a page", 3)


def test_the_check_sees_what_a_command_says_and_how_it_ends(tmp_path: Path) -> None:
    session = transcript("$ echo a; exit_3() { return 3; }\na\n$ exit_3\n$ echo $?\n3\n$ echo b >&2\nb\n")
    assert run_in_bash([command for command, _ in session], tmp_path) == [said for _, said in session]


def test_what_a_session_left_running_is_gone_at_its_end(tmp_path: Path) -> None:
    [pid, _] = run_in_bash(
        ["python -c 'import os, time; print(os.getpid(), flush=True); time.sleep(60)' &", "true"], tmp_path
    )
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_the_check_sees_a_link_that_leads_nowhere(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A head\n[here](page.md) [there](gone.md) [down](#a-head) [up](#gone) [out](https://x.test)\n")
    assert broken_links(page) == ["gone.md", "#gone"]
