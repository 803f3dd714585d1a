"""Requests to the application over HTTP, made without a network, and what is asked of it.

Rules: wsgiref's validator stands in between, so that neither side strays from WSGI.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

ALICE = {"alice"}.__contains__
HELD = {f"c{n}": {"number": n, "pixels": bytes(n)} for n in range(5)}


def call(
    application: Any, method: str, path: str, body: bytes = b"", token: str | None = None, **environ: Any
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of one request, with the validator in between."""
    request: dict[str, Any] = {"REQUEST_METHOD": method, "PATH_INFO": path, "wsgi.input": io.BytesIO(body)}
    if body or method == "POST":
        request["CONTENT_LENGTH"] = str(len(body))
    if token is not None:
        request["HTTP_AUTHORIZATION"] = token
    request |= environ
    request |= {"QUERY_STRING": "", "SCRIPT_NAME": "/mounted"}
    setup_testing_defaults(request)
    told: list[Any] = []
    written: list[bytes] = []

    def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], None]:
        told[:] = [int(status[:3]), dict(headers)]
        return written.append

    answer = validator(application)(request, start_response)  # type: ignore[arg-type]  # a start_response for tests
    try:
        written += answer
    finally:
        answer.close()  # type: ignore[attr-defined]  # the validator's iterator has it, and wants it called
    return told[0], told[1], b"".join(written)


def started(application: Any) -> Any:
    """The body of the whole bundle, as a WSGI server has it; its `write()` is not to be used."""
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": "/v1/bundle"}
    setup_testing_defaults(environ)
    return application(environ, lambda status, headers: None)
