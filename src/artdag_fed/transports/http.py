"""Instances over HTTP: a WSGI application that serves one, and a `Fetch` that reads from those that are served.

Rules: the server gives what `export` gives to whoever `authorize` lets pass (`http_server` has the details); the client
believes nothing and waits no longer than its deadline (`http_client`, `http_connection`); `docs/wire-format.md` has the
requests and answers. Refused: other schemes than http and https, a token in the open, redirects to elsewhere.

Two round trips bring just what a run needs:

    offered = http.have(url, plan(fed, dag).computed)
    needed = plan(fed, dag, offered=offered).wanted
    fed = pull(fed, http.fetcher({"alice": url}, cids=needed), "alice", trusted)
"""

from artdag_fed.transports.http_client import DEADLINE, HttpFetch, fetcher, have
from artdag_fed.transports.http_server import app

__all__ = ["DEADLINE", "HttpFetch", "app", "fetcher", "have"]
