"""What a process did to a folder, from what strace wrote down: a list of operations on numbered files and folders.

Rules: every call that can change a file is either understood or refused (`ValueError`), never passed over; calls that
failed did nothing. A call takes effect when it ends; where it began is kept too, since an fsync promises nothing about
a write that was still going on when it began. What lies outside of the folder is left out.

strace is asked for all strings in hexadecimal and in full, so a line can be split at its commas.

>>> call("7 pwrite64(3, \\"\\\\x61\\", 1, 0) = 1").name
'pwrite64'
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.child import WRITING, Child

__all__ = ["OPTIONS", "ROOT", "Call", "Op", "Recorder", "call", "calls", "descriptors"]

TRACED = (*WRITING, "close", "dup", "dup2", "dup3", "fcntl", "lseek", "mmap", "msync")
OPTIONS = ("-xx", "-s", str(1 << 24), "-e", "trace=" + ",".join("?" + name for name in TRACED))

ROOT = 0  # the number of the folder that is recorded


class Call(NamedTuple):
    """A system call: lines of the trace in which it began and ended, its name, arguments as written, and its result."""

    begin: int
    end: int
    name: str
    arguments: list[str]
    result: int


class Op(NamedTuple):
    """One change. `write` and `truncate` are of the file `target`; `bind` and `unbind` of an entry of the folder
    `target`; `sync` of either; `mark` says that a commit was reported. `needs`: the index of the operation without
    which this one cannot have happened (the two halves of a rename), or -1."""

    begin: int
    end: int
    kind: str
    target: int = -1
    name: str = ""
    bound: int = -1
    offset: int = 0
    data: bytes = b""
    needs: int = -1


# --- the text ---------------------------------------------------------------------------------


def calls(trace: str) -> Iterator[Call]:
    """The calls in the order in which they ended, each line put together again where another thread came between."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        thread, _, text = line.partition(" ")
        text = text.strip()
        begin = number
        if text.endswith("<unfinished ...>"):
            begun[thread] = (number, text.removesuffix("<unfinished ...>").rstrip())
            continue
        if resumed := re.match(r"<\.\.\. \w+ resumed>", text):
            begin, first = begun.pop(thread)
            text = first + text[resumed.end() :]
        if (found := call(f"{thread} {text}", begin, number)) is not None:
            yield found


def call(line: str, begin: int = 0, end: int = 0) -> Call | None:
    """The call in a whole line; None for the end of a thread and the like. `ValueError` for what cannot be read."""
    text = line.partition(" ")[2].strip()
    if text.startswith(("+++", "---")):
        return None
    match = re.match(r"(\w+)\((.*)\)\s*= (\?|-?\d+|0x[0-9a-f]+)", text)
    if match is None:
        raise ValueError(f"not understood in a trace: {text[:200]}")
    result = -1 if match[3] == "?" else int(match[3], 0)
    return Call(begin, end, match[1], match[2].split(", "), result)


def _bytes(argument: str) -> bytes:
    assert argument.startswith('"') and argument.endswith('"'), f"cut short: {argument[-40:]}"
    return bytes.fromhex(argument[1:-1].replace("\\x", ""))


# --- its meaning ------------------------------------------------------------------------------


class _Open:
    """An open file description. `position`: where `write` writes; None where it is not known."""

    def __init__(self, node: int, position: int | None, append: bool = False) -> None:
        self.node = node
        self.position = position
        self.append = append


MARKER = -2  # the node of the file that promises are written to


def descriptors(child: Child) -> dict[int, str]:
    """The files that a waiting child has open already."""
    folder = Path(f"/proc/{child.pid}/fd")
    return {int(name): os.readlink(folder / name) for name in os.listdir(folder)}


class Recorder:
    """Follows the calls of one process over the folder `root`, as it is now; `operations` is what came of them."""

    def __init__(self, root: Path, marker: Path | None = None) -> None:
        self._root = str(root)
        self._marker = None if marker is None else str(marker)
        self.entries: dict[int, dict[str, int]] = {}  # of folders, by number
        self.contents: dict[int, bytes] = {}  # of files, by number
        self._count = 0
        self._scan(root)
        self.first_entries = {number: dict(names) for number, names in self.entries.items()}
        self.sizes = {number: len(content) for number, content in self.contents.items()}
        self._open: dict[int, _Open] = {}
        self.operations: list[Op] = []

    def _scan(self, path: Path) -> int:
        number = self._count
        self._count += 1
        if path.is_dir():
            self.entries[number] = {}
            for child in sorted(path.iterdir()):
                self.entries[number][child.name] = self._scan(child)
        else:
            self.contents[number] = path.read_bytes()
        return number

    def inherit(self, fds: dict[int, str]) -> None:
        """Take over what the process has open when the recording begins."""
        for fd, path in fds.items():
            if path == self._marker:
                self._open[fd] = _Open(MARKER, None, append=True)
            elif (node := self._find(None, path)) is not None:
                self._open[fd] = _Open(node, None)

    def follow(self, trace: str) -> list[Op]:
        """Read a whole trace; what came of it."""
        for done in calls(trace):
            if done.result < 0:
                continue  # it failed, and did nothing
            method = getattr(self, "_" + done.name, None)
            if method is not None:
                method(done)
            elif done.name in TRACED:
                self._refuse(done)
        return self.operations

    # --- files and folders by name --------------------------------------------------------

    def _place(self, folder: str | None, path: str) -> tuple[int, str] | None:
        """The folder and the name that a path means; None where that is not in the recorded one."""
        if path.startswith("/"):
            if path != self._root and not path.startswith(self._root + "/"):
                return None
            here, parts = ROOT, path[len(self._root) :].split("/")
        else:
            if folder is None or folder == "AT_FDCWD":
                return None  # relative to the working folder, which is none of ours
            opened = self._open.get(int(folder))
            if opened is None:
                return None
            here, parts = opened.node, path.split("/")
        parts = [part for part in parts if part not in ("", ".")]
        for part in parts[:-1]:
            here = self.entries[here][part]
        return (here, parts[-1]) if parts else (here, "")

    def _find(self, folder: str | None, path: str) -> int | None:
        place = self._place(folder, path)
        if place is None:
            return None
        return place[0] if place[1] == "" else self.entries[place[0]].get(place[1])

    def _add(self, done: Call, kind: str, target: int = -1, **rest: object) -> int:
        self.operations.append(Op(done.begin, done.end, kind, target, **rest))  # type: ignore[arg-type]  # fields of Op
        return len(self.operations) - 1

    def _bind(self, done: Call, place: tuple[int, str], node: int, needs: int = -1) -> int:
        self.entries[place[0]][place[1]] = node
        return self._add(done, "bind", place[0], name=place[1], bound=node, needs=needs)

    def _unbind(self, done: Call, place: tuple[int, str] | None, needs: int = -1) -> None:
        if place is not None:
            del self.entries[place[0]][place[1]]
            self._add(done, "unbind", place[0], name=place[1], needs=needs)

    # --- calls ------------------------------------------------------------------------------

    def _openat(self, done: Call) -> None:
        folder, path, flags = done.arguments[0], os.fsdecode(_bytes(done.arguments[1])), done.arguments[2].split("|")
        self._open.pop(done.result, None)
        if path == self._marker:
            self._open[done.result] = _Open(MARKER, None, append=True)
            return
        place = self._place(folder, path)
        if place is None:
            return
        node = self._find(folder, path)
        if "O_TMPFILE" in flags:
            self._refuse(done)
        if node is None:
            node, self._count = self._count, self._count + 1
            self.contents[node], self.sizes[node] = b"", 0
            self._bind(done, place, node)
        elif "O_TRUNC" in flags:
            self._resize(done, node, 0)
        position = 0 if "O_WRONLY" in flags else None  # another one may be moved by reading
        self._open[done.result] = _Open(node, position, "O_APPEND" in flags)

    def _close(self, done: Call) -> None:
        self._open.pop(int(done.arguments[0]), None)

    def _dup(self, done: Call) -> None:
        opened = self._open.get(int(done.arguments[0]))
        self._open.pop(done.result, None)
        if opened is not None:
            self._open[done.result] = opened

    _dup2 = _dup3 = _dup

    def _fcntl(self, done: Call) -> None:
        if done.arguments[1].startswith("F_DUPFD"):
            self._dup(done)

    def _lseek(self, done: Call) -> None:
        if (opened := self._open.get(int(done.arguments[0]))) is not None:
            opened.position = done.result

    def _write(self, done: Call) -> None:
        opened = self._open.get(int(done.arguments[0]))
        if opened is None:
            return
        if opened.node == MARKER:
            for _ in range(done.result):
                self._add(done, "mark")
            return
        at = self.sizes[opened.node] if opened.append else opened.position
        if at is None:
            self._refuse(done)
            return
        opened.position = at + done.result
        self._written(done, opened.node, at)

    def _pwrite64(self, done: Call) -> None:
        if (opened := self._open.get(int(done.arguments[0]))) is not None:
            self._written(done, opened.node, int(done.arguments[3]))

    def _written(self, done: Call, node: int, at: int) -> None:
        data = _bytes(done.arguments[1])[: done.result]
        self.sizes[node] = max(self.sizes[node], at + len(data))
        self._add(done, "write", node, offset=at, data=data)

    def _ftruncate(self, done: Call) -> None:
        if (opened := self._open.get(int(done.arguments[0]))) is not None:
            self._resize(done, opened.node, int(done.arguments[1]))

    def _resize(self, done: Call, node: int, size: int) -> None:
        self.sizes[node] = size
        self._add(done, "truncate", node, offset=size)

    def _fsync(self, done: Call) -> None:
        if (opened := self._open.get(int(done.arguments[0]))) is not None:
            self._add(done, "sync", opened.node)

    _fdatasync = _fsync  # it leaves out times, never the size

    def _mkdirat(self, done: Call) -> None:
        self._make(done, done.arguments[0], done.arguments[1])

    def _mkdir(self, done: Call) -> None:
        self._make(done, None, done.arguments[0])

    def _make(self, done: Call, folder: str | None, path: str) -> None:
        place = self._place(folder, os.fsdecode(_bytes(path)))
        if place is not None:
            node, self._count = self._count, self._count + 1
            self.entries[node] = {}
            self.first_entries[node] = {}
            self._bind(done, place, node)

    def _unlinkat(self, done: Call) -> None:
        self._unbind(done, self._place(done.arguments[0], os.fsdecode(_bytes(done.arguments[1]))))

    def _unlink(self, done: Call) -> None:
        self._unbind(done, self._place(None, os.fsdecode(_bytes(done.arguments[0]))))

    _rmdir = _unlink

    def _rename(self, done: Call) -> None:
        self._move(done, None, done.arguments[0], None, done.arguments[1])

    def _renameat(self, done: Call) -> None:
        self._move(done, *done.arguments[:4])

    def _renameat2(self, done: Call) -> None:
        if done.arguments[4] not in ("0", "RENAME_NOREPLACE"):
            self._refuse(done)
        self._move(done, *done.arguments[:4])

    def _move(self, done: Call, old_folder: str | None, old: str, new_folder: str | None, new: str) -> None:
        source = self._place(old_folder, os.fsdecode(_bytes(old)))
        target = self._place(new_folder, os.fsdecode(_bytes(new)))
        if source is None and target is None:
            return
        if source is None or target is None:
            self._refuse(done)
            return
        bound = self._bind(done, target, self.entries[source[0]][source[1]])
        self._unbind(done, source, needs=bound)

    def _link(self, done: Call) -> None:
        self._name(done, None, done.arguments[0], None, done.arguments[1])

    def _linkat(self, done: Call) -> None:
        self._name(done, *done.arguments[:4])

    def _name(self, done: Call, old_folder: str | None, old: str, new_folder: str | None, new: str) -> None:
        node = self._find(old_folder, os.fsdecode(_bytes(old)))
        place = self._place(new_folder, os.fsdecode(_bytes(new)))
        if node is None and place is None:
            return
        if node is None or place is None:
            self._refuse(done)
            return
        self._bind(done, place, node)

    def _mmap(self, done: Call) -> None:
        flags = done.arguments[2:4]
        if int(done.arguments[4]) in self._open and "PROT_WRITE" in flags[0] and "MAP_SHARED" in flags[1]:
            raise ValueError("a file is written through memory: that cannot be recorded")

    def _refuse(self, done: Call) -> None:
        """A call that is not understood: fine on other files, and an end to the recording on ours."""
        ours = any(a.isdigit() and int(a) in self._open for a in done.arguments[:2]) or any(
            a.startswith('"') and self._place(None, os.fsdecode(_bytes(a))) is not None for a in done.arguments
        )
        if ours:
            raise ValueError(f"{done.name}({', '.join(done.arguments)[:200]}) is not understood")
