"""An instance over HTTP: tokens, redirects, names and certificates, and what the client refuses of them.

Rules: a real server on loopback answers; no test leaves this machine.
"""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import shift_path_info

import pytest

import artdag_fed
from artdag_fed import Federation, TransportError
from artdag_fed.transports import http, http_connection
from tests.http_calls import HELD
from tests.http_servers import Told, answering, head, serving

# --- tokens -----------------------------------------------------------------------------------


def test_a_token_is_sent_to_its_peer_and_a_wrong_one_is_in_no_message() -> None:
    application = http.app(Federation(HELD), "alice", authorize=lambda token: token == "s3cret+/=")
    with serving(application) as server:
        urls = {"alice": server.url}
        assert len(list(http.fetcher(urls, tokens={"alice": "s3cret+/=", "other": "\n"})("alice"))) == 5
        assert set(http.have(server.url, ["c1"], token="s3cret+/=")) == {"c1"}
        for tokens in ({}, {"alice": "swordfish"}, {"bob": "s3cret+/="}):
            with pytest.raises(TransportError, match=r"'alice'.* failed: it answered 401 'a token that is") as refused:
                list(http.fetcher(urls, tokens=tokens)("alice"))
            assert "swordfish" not in str(refused.value) + repr(http.fetcher(urls, tokens=tokens))


@pytest.mark.parametrize(
    "url",
    [
        "http://alice.example",
        "http://localhost.alice.example",
        "http://127.0.0.1.alice.example",
        "http://128.0.0.1",
        "http://0.0.0.0",
        "http://192.168.0.1",
        "http://[::2]",
        "http://2130706433.example",
    ],
)
def test_a_token_does_not_travel_in_the_open(url: str) -> None:
    with pytest.raises(ValueError, match="would travel in the open: use https") as refused:
        http.fetcher({"alice": url}, tokens={"alice": "swordfish"})
    assert "swordfish" not in str(refused.value)
    with pytest.raises(ValueError, match="would travel in the open: use https"):
        http.have(url, ["c1"], token="swordfish")


@pytest.mark.parametrize(
    "url", ["https://alice.example", "http://127.0.0.1:8000", "http://127.9.9.9", "http://[::1]:1", "http://LOCALHOST"]
)
def test_a_token_may_travel_over_https_and_on_this_machine(url: str) -> None:
    assert "swordfish" not in repr(http.fetcher({"alice": url}, tokens={"alice": "swordfish"}))


@pytest.mark.parametrize("token", ["", "two words", "a\r\nX-Evil: b", "a\n", "é", '"', "=", "a" * 5000])
def test_a_token_that_could_end_its_header_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="cannot be one: only A-Z a-z 0-9"):
        http.fetcher({"alice": "https://alice.example"}, tokens={"alice": token})
    with pytest.raises(TypeError, match="a token is a str, not bytes"):
        http.have("https://alice.example", ["c1"], token=token.encode())  # type: ignore[arg-type]  # wrong on purpose


def test_a_token_is_not_sent_where_localhost_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    with Told(answering(head())) as server:
        monkeypatch.setattr(socket.socket, "getpeername", lambda self: ("192.0.2.1", 80), raising=False)
        url = server.url.replace("127.0.0.1", "localhost")
        with pytest.raises(TransportError, match="'localhost' is not this machine: a token is sent over https only"):
            list(http.fetcher({"alice": url}, tokens={"alice": "swordfish"})("alice"))
    assert not any(b"swordfish" in request for request in server.requests)


# --- redirects, names, TLS ----------------------------------------------------------------------


def redirecting(status: str, to: str) -> Callable[[Any, Any], Any]:
    """An application that has moved to `/new`, and says so in this way."""
    application = http.app(Federation(HELD), "alice", authorize=lambda token: token == "s3cret")

    def moved(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"].startswith("/new/"):
            shift_path_info(environ)
            return application(environ, start_response)
        location = to.format(host=environ["HTTP_HOST"], path=environ["PATH_INFO"])
        start_response(status, [("Location", location), ("Content-Type", "text/plain")])
        return [b"gone"]

    return moved


@pytest.mark.parametrize("to", ["/new{path}", "http://{host}/new{path}", "//{host}/new{path}", "../new{path}"])
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_within_the_origin_is_followed_and_a_post_stays_one(status: str, to: str) -> None:
    with serving(redirecting(status, to)) as server:
        fetch = http.fetcher({"alice": server.url}, tokens={"alice": "s3cret"})
        assert len(list(fetch("alice"))) == len(HELD)
        if status[:3] in ("307", "308"):
            assert set(fetch.digests("alice", HELD)) == set(HELD)
        else:
            with pytest.raises(TransportError, match=f"it answered {status[:3]}"):
                fetch.digests("alice", HELD)


def test_a_name_that_does_not_exist_is_an_error_that_says_so() -> None:
    with pytest.raises(TransportError, match=r"'alice'.*the name 'no-such-name.invalid' was not found: gaierror"):
        list(http.fetcher({"alice": "http://no-such-name.invalid"}, deadline=20)("alice"))
    with pytest.raises(TransportError, match=r"was not found: Unicode"):
        list(http.fetcher({"alice": f"http://{'a' * 70}.invalid"}, deadline=20)("alice"))


def test_of_several_addresses_the_first_that_answers_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(http.app(Federation(HELD), "alice")) as server, socket.create_server(("127.0.0.1", 0)) as dead:
        dead_port = dead.getsockname()[1]
        dead.close()
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*stream, ("127.0.0.1", dead_port)), (*stream, ("127.0.0.1", server.server_port))]
        monkeypatch.setattr(http_connection, "_addresses", lambda *_: found)
        assert set(http.have("http://localhost", HELD)) == set(HELD)
        monkeypatch.setattr(http_connection, "_addresses", lambda *_: [])
        with pytest.raises(TransportError, match="the name has no address"):
            http.have("http://localhost", HELD)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for localhost that it signed itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(path), "-out", str(path) + ".crt"]
    try:
        subprocess.run([*command.split(), *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl command")
    path.write_bytes(path.read_bytes() + Path(str(path) + ".crt").read_bytes())
    return path


def test_a_certificate_is_checked_and_its_name_too(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    application = http.app(Federation(HELD), "alice", authorize=lambda token: token == "s3cret")
    with serving(application, context) as server:
        url = f"https://localhost:{server.server_port}"
        for asked in (url, url.replace("localhost", "127.0.0.1")):
            with pytest.raises(TransportError, match=r"'alice'.*SSLCertVerificationError.*verify failed"):
                list(http.fetcher({"alice": asked}, tokens={"alice": "s3cret"})("alice"))
        # Where the system trusts it, it is good for its own name alone.
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate) + ".crt")
        assert len(list(http.fetcher({"alice": url}, tokens={"alice": "s3cret"})("alice"))) == len(HELD)
        with pytest.raises(TransportError, match=r"IP address mismatch|doesn't match"):
            list(http.fetcher({"alice": url.replace("localhost", "127.0.0.1")})("alice"))


def test_no_parameter_turns_the_check_of_certificates_off() -> None:
    source = Path(http_connection.__file__).read_text("utf-8")
    assert re.findall(r"ssl\.\w+", source) == ["ssl.create_default_context"] and "create_default_context()" in source


def test_importing_the_library_does_not_import_a_network(tmp_path: Path) -> None:
    source = Path(artdag_fed.__file__).parent.parent
    code = "import sys, artdag_fed; print(sorted({'socket', 'ssl', 'http.client'} & set(sys.modules)))"
    done = subprocess.run(
        ["python3", "-c", code], env={"PYTHONPATH": str(source)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stdout == "[]\n", done.stderr
