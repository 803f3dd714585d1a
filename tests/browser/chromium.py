"""Headless Chromium, driven by its own protocol through a pipe: loads a page of ours, asks it, takes its picture.

Rules: the standard library, and `chromium` (or Chrome) on the PATH; pages come from files, or from a server on this
machine. What the page wrote to the console and what it failed to load is kept, and whoever uses this looks at it. Ends
what it has started.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
SECONDS = 60  # for one answer: a machine that does other things as well takes seconds to start it


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Chromium:
    """One browser with one page, `width` pixels wide."""

    def __init__(self, *, width: int = 1000, height: int = 1200, dark: bool = False) -> None:
        program = find()
        if program is None:
            raise FileNotFoundError(f"none of {', '.join(NAMES)} is on the PATH")
        self.complaints: list[str] = []
        self._profile = tempfile.TemporaryDirectory()
        self._buffer = b""
        self._asked = 0
        self._session = ""
        read_by_it, self._to = os.pipe()
        self._from, written_by_it = os.pipe()
        # It reads from 3 and writes to 4: bash puts the ends of the pipes there.
        flags = ["--headless", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"]
        flags += ["--no-sandbox"] if os.getuid() == 0 else []  # there is none for root
        flags += ["--disable-dev-shm-usage", f"--user-data-dir={self._profile.name}"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{read_by_it} 4>&{written_by_it}', "bash", program, *flags],
            pass_fds=(read_by_it, written_by_it),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read_by_it)
        os.close(written_by_it)
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.close(self._to)  # which is how it is told to end
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._from)
        shutil.rmtree(self._profile.name, ignore_errors=True)  # it may leave a helper behind that still writes a moment
        self._profile.cleanup()

    # --- what is done with a page ---------------------------------------------------------------

    def load(self, page: Path | str) -> None:
        """Load a file or a URL, and wait until all of it is there."""
        self.ask("Page.navigate", url=page.resolve().as_uri() if isinstance(page, Path) else page)
        while self._message().get("method") != "Page.loadEventFired":
            pass

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives, as JSON has it; promises are waited for."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def pictures(self, stem: Path, *, tall: int = 1400) -> list[Path]:
        """The whole page as PNG files, each at most `tall` pixels: `stem-1.png` and so on."""
        size = self.ask("Page.getLayoutMetrics")["cssContentSize"]
        made = []
        for number, top in enumerate(range(0, round(size["height"]), tall), 1):
            clip = {"x": 0, "y": top, "width": size["width"], "height": min(tall, size["height"] - top), "scale": 1}
            data = self.ask("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
            made.append(stem.with_name(f"{stem.name}-{number}.png"))
            made[-1].write_bytes(base64.b64decode(data))
        return made

    # --- the protocol: JSON between zero bytes --------------------------------------------------

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """One call of the protocol, and its answer."""
        self._asked += 1
        call = {"id": self._asked, "method": method, "params": params}
        if self._session:
            call["sessionId"] = self._session
        data = json.dumps(call).encode() + b"\0"
        while data:
            data = data[os.write(self._to, data) :]
        while (answer := self._message()).get("id") != self._asked:
            pass
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        result = answer["result"]
        assert isinstance(result, dict)
        return result

    def _message(self) -> dict[str, Any]:
        ends = time.monotonic() + SECONDS
        while b"\0" not in self._buffer:
            if not select.select([self._from], [], [], max(0, ends - time.monotonic()))[0]:
                raise TimeoutError(f"Chromium has not answered for {SECONDS} s")
            data = os.read(self._from, 1 << 16)
            if not data:
                raise ConnectionError("Chromium has ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message = json.loads(line)
        assert isinstance(message, dict)
        params = message.get("params", {})
        if message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(one.get("value", one.get("description"))) for one in params["args"]))
        elif message.get("method") == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"]["text"])
        return message
