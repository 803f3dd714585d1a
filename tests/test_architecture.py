"""The shape of the house: who may import whom, and what no file in `src` does.

Rules: everything is read from the source with `ast`, so imports inside functions and under `TYPE_CHECKING` count too;
every check is a function from source to complaints, and is shown a wrong source once, at the end of this file.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parent.parent / "src"
PACKAGE = "artdag_fed"

# An import points to a lower floor, or to a module listed earlier on the same one. A name ending in "/" is a folder,
# and gives its floor to each of its files. Names of modules that do not exist yet are welcome.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "errors",
        "names",
        "limits",
        "drawing_words",
        "drawing_graph",
        "drawing_text",
        "drawing_layout",
        "drawing",
        "drawing_page",
    ),
    ("canonical", "codec_scalars", "codec_plain", "codec_arrays", "codec_tagged", "codec", "events"),
    ("dag", "record", "claims", "cache", "callables"),
    (
        "signing",
        "admission",
        "bundle_header",
        "bundle",
        "transport",
        "agreement",
        "planning",
        "failures",
        "grouping",
        "sources",
        "execute",
        "ops",
        "workers",
        "parallel",
        "observers",
        "difference",
    ),
    ("caches/",),
    ("instance", "importing", "federation"),
    ("explanation", "derivation", "standing", "challenging", "audit", "pruning", "transports/"),
    (
        "testing_commits",
        "testing_changes",
        "testing_peers",
        "testing",
        "__init__",
        "cli_output",
        "cli_arguments",
        "cli_files",
        "cli_commands",
        "__main__",
    ),  # the front door imports all but the command line; none but that imports it
)

# The order within a folder. Its `__init__`, where it has one, comes last: it may show what the files hold.
FOLDERS: dict[str, tuple[str, ...]] = {
    "caches/": (
        "evidence",
        "memory_offers",
        "memory_table",
        "memory",
        "disk_index",
        "disk_blobs",
        "disk_origins",
        "disk_offers",
        "disk_commit",
        "disk_staging",
        "disk_views",
        "disk_reading",
        "disk",
        "disk_faults",
        "disk_check",
        "__init__",
    ),
    "transports/": (
        "folder_layout",
        "folder",
        "http_wire",
        "http_connection",
        "http_client",
        "http_page",
        "http_server",
        "http_listener",
        "http",
        "__init__",
    ),
}

# What reaches a network or a database stays in the files whose work it is.
OUTSIDE = frozenset(
    {
        "asyncio",
        "dbm",
        "ftplib",
        "http",
        "imaplib",
        "poplib",
        "select",
        "selectors",
        "smtplib",
        "socket",
        "socketserver",
    }
    | {"socketserver", "sqlite3", "ssl", "urllib", "wsgiref", "xmlrpc"}
)
MAY_REACH_OUTSIDE = re.compile(r"caches/(?!memory$).+|transports/.+")

# What could turn bytes into code, or load code by name.
RUNNING_MODULES = frozenset(
    {"builtins", "code", "codeop", "ctypes", "importlib", "marshal", "pickle", "pickletools", "runpy", "shelve"}
)
RUNNING_NAMES = frozenset({"eval", "exec", "compile", "__import__", "__builtins__"})

MOST_LINES = 400
EXCEPTION = re.compile(
    r"#\s*(?:noqa\b[:\w\s,]*?|type: ignore\S*|pragma: no \w+|fmt: \w+|ruff: \w+)(?=\s*[-#(:]|\s*$)(.*)$"
)

FILES = sorted((SRC / PACKAGE).rglob("*.py"))
MODULES = {path.relative_to(SRC / PACKAGE).with_suffix("").as_posix(): path for path in FILES}
every_module = pytest.mark.parametrize("module", MODULES)


# --- checks: from source to complaints ------------------------------------------------------


def place(module: str) -> tuple[int, int, int] | None:
    """(floor, position on it, position in its folder), comparable; None where the table does not know the module."""
    folder, slash, name = module.rpartition("/")
    for floor, listed in enumerate(FLOORS):
        if slash and folder + "/" in listed and name in FOLDERS[folder + "/"]:
            return floor, listed.index(folder + "/"), FOLDERS[folder + "/"].index(name)
        if not slash and module in listed:
            return floor, listed.index(module), 0
    return None


def imported(source: str, module: str) -> Iterator[tuple[int, str]]:
    """Each (line, dotted name) that the source imports; a relative import as the absolute one that it stands for."""
    parents = [PACKAGE, *module.split("/")[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) - node.level + 1] if node.level else []
            dotted = ".".join([*base, *([node.module] if node.module else [])])
            # The name may be a module of its own (`from artdag_fed import names`) or something inside of one.
            yield from ((node.lineno, f"{dotted}.{alias.name}") for alias in node.names)


def ours(dotted: str, modules: frozenset[str]) -> str | None:
    """The module of ours that importing `dotted` loads, as in the table: `caches/disk`; None where it is not ours."""
    first, *rest = dotted.split(".")
    if first != PACKAGE:
        return None
    for length in range(len(rest), 0, -1):
        path = "/".join(rest[:length])
        for candidate in (path, f"{path}/__init__"):
            if candidate in modules:
                return candidate
    return "__init__"


def upward_imports(source: str, module: str, modules: frozenset[str]) -> list[str]:
    here = place(module)
    if here is None:
        return [f"{module} stands on no floor: add it to FLOORS or FOLDERS"]
    complaints = []
    for line, dotted in imported(source, module):
        target = ours(dotted, modules)
        if target is None or target == module:
            continue
        there = place(target)
        if there is None or there >= here:
            complaints.append(f"{module}:{line} imports {target}, which is not below it")
    return complaints


def foreign_imports(source: str, module: str) -> list[str]:
    tops = [(line, dotted.split(".")[0]) for line, dotted in imported(source, module)]
    return [
        f"{module}:{line} imports {top}, which is not in the standard library"
        for line, top in tops
        if top != PACKAGE and top not in sys.stdlib_module_names
    ]


def outside_imports(source: str, module: str) -> list[str]:
    if MAY_REACH_OUTSIDE.fullmatch(module):
        return []
    tops = [(line, dotted.split(".")[0]) for line, dotted in imported(source, module)]
    return [f"{module}:{line} imports {top}: not the work of this file" for line, top in tops if top in OUTSIDE]


def running_data(source: str, module: str) -> list[str]:
    complaints = [
        f"{module}:{line} imports {dotted}"
        for line, dotted in imported(source, module)
        # `importlib.metadata` only reads the version that was installed.
        if dotted.split(".")[0] in RUNNING_MODULES and not dotted.startswith("importlib.metadata")
    ]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name) and node.id in RUNNING_NAMES:
            complaints.append(f"{module}:{node.lineno} uses {node.id}")
        if isinstance(node, ast.Attribute) and node.attr in ("enable_load_extension", "load_extension"):
            complaints.append(f"{module}:{node.lineno} uses {node.attr}")
    return complaints


def unreasoned(source: str, module: str) -> list[str]:
    """Exceptions to a checker that do not say why: a reason is at least two words behind the marker."""
    complaints = []
    for number, line in enumerate(source.splitlines(), 1):
        found = EXCEPTION.search(line)
        if found and len(re.findall(r"[A-Za-z]{2,}", found[1])) < 2:
            complaints.append(f"{module}:{number} has an exception without its reason: {line.strip()}")
    return complaints


# --- the house as it is ---------------------------------------------------------------------


@every_module
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    assert upward_imports(MODULES[module].read_text("utf-8"), module, frozenset(MODULES)) == []


@every_module
def test_only_the_standard_library_is_imported(module: str) -> None:
    assert foreign_imports(MODULES[module].read_text("utf-8"), module) == []


@every_module
def test_networks_and_databases_are_reached_only_from_the_files_for_it(module: str) -> None:
    assert outside_imports(MODULES[module].read_text("utf-8"), module) == []


@every_module
def test_nothing_can_run_data(module: str) -> None:
    assert running_data(MODULES[module].read_text("utf-8"), module) == []


@every_module
def test_a_module_says_what_it_is_for(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text("utf-8")))
    assert docstring and docstring.splitlines()[0].endswith((".", ":")), "one line of purpose comes first"


@every_module
def test_a_file_can_be_read_in_one_sitting(module: str) -> None:
    lines = len(MODULES[module].read_text("utf-8").splitlines())
    assert lines <= MOST_LINES, f"{module} has {lines} lines: split it by behaviour"


@every_module
def test_statements_have_no_numbered_placeholders(module: str) -> None:
    """Python 3.12 warns of `?1` with a sequence, and 3.14 refuses it: names, with a dict, are for what comes twice."""
    assert re.search(r"\?[0-9]", MODULES[module].read_text("utf-8")) is None


@every_module
def test_an_exception_to_a_checker_has_its_reason_beside_it(module: str) -> None:
    assert unreasoned(MODULES[module].read_text("utf-8"), module) == []


def test_importing_the_library_opens_no_door_to_a_network() -> None:
    doors = {"socket", "ssl", "http.client", "urllib.request"}
    script = f"import sys, {PACKAGE}; print(*sorted({doors} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(SRC)}, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


# --- the checks themselves ------------------------------------------------------------------

HOUSE = frozenset({"__init__", "errors", "names", "dag", "cache", "federation", "caches/memory", "caches/disk"})


@pytest.mark.parametrize(
    "source",
    [
        "from artdag_fed.federation import run",
        "import artdag_fed.caches.disk",
        "from artdag_fed import cache",
        "from artdag_fed import open",
        "from .cache import Cache",
        "def late():\n    from artdag_fed.cache import Cache",
        "if TYPE_CHECKING:\n    from artdag_fed.caches.memory import MemoryCache",
    ],
)
def test_the_check_sees_an_import_that_points_up(source: str) -> None:
    assert upward_imports(source, "dag", HOUSE), source
    assert not upward_imports("from artdag_fed.names import Cid\nfrom . import errors", "dag", HOUSE)


def test_the_check_sees_an_import_against_the_order_of_a_folder() -> None:
    assert upward_imports("from artdag_fed.caches.disk import DiskCache", "caches/memory", HOUSE)
    assert not upward_imports("from .memory import MemoryCache", "caches/disk", HOUSE)


def test_the_check_sees_a_module_without_a_floor() -> None:
    assert upward_imports("", "helpers", HOUSE) and upward_imports("", "caches/helpers", HOUSE)


def test_the_checks_see_foreign_reaching_and_running_imports() -> None:
    assert foreign_imports("import numpy.linalg", "codec") and not foreign_imports("import json", "codec")
    assert outside_imports("import urllib.request", "dag") and outside_imports("import sqlite3", "caches/memory")
    assert not outside_imports("import sqlite3", "caches/disk")
    for source in ("from pickle import loads", "eval('1')", "x = exec", "__import__('os')", "import importlib.util"):
        assert running_data(source, "codec"), source
    assert not running_data("import re\nre.compile('a')", "codec")


@pytest.mark.parametrize("marker", ["# noqa: BLE001", "# type: ignore[misc]", "# pragma: no cover"])
def test_the_check_sees_an_exception_without_a_reason(marker: str) -> None:
    assert unreasoned(f"x = 1  {marker}", "dag"), marker
    for reason in (" - the reason stands here", "  # the reason stands here", ": the reason stands here"):
        assert not unreasoned(f"x = 1  {marker}{reason}", "dag"), marker + reason
