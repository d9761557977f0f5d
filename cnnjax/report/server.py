"""The report as a page that is served while runs go on: it asks every other second for what is new.

It only reads, and knows two addresses, the page and its content, so nothing else can be asked for.
"""

import contextlib
import hashlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from cnnjax.errors import UserError
from cnnjax.report.contents import page_of
from cnnjax.report.page import Page, render, to_json
from cnnjax.report.records import changes_of

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ADDRESS = "data.json"


class _Watched:
    """The content of the folders' page, made anew when a file has changed."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = folders
        self._lock = threading.Lock()
        self._changes: object = None
        self._page, self._text, self._tag = Page(""), "", ""

    def content(self) -> tuple[str, str]:
        """JSON, and a tag that differs when it does."""
        with self._lock:
            self._update()
            return self._text, self._tag

    def page(self) -> str:
        """The whole page."""
        with self._lock:
            self._update()
            return render(self._page, live=ADDRESS)

    def _update(self) -> None:
        changes = changes_of(self._folders)
        if changes != self._changes:
            self._page = page_of(self._folders)
            self._text = to_json(self._page)
            self._tag = f'"{hashlib.sha256(self._text.encode()).hexdigest()[:20]}"'
            self._changes = changes


def application(folders: Sequence[Path], host: str = LOOPBACK[0]) -> Starlette:
    """The application that serves the page of the folders, `/`, and its content, `/data.json`.

    On the loopback address it answers only those who ask for that by name: a foreign page whose name leads
    here by DNS does not get to read it.
    """
    watched = _Watched(folders)

    def page(request: Request) -> Response:
        return HTMLResponse(watched.page(), headers={"Cache-Control": "no-store"})

    def data(request: Request) -> Response:
        text, tag = watched.content()
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(text, media_type="application/json", headers=headers)

    def unreadable(request: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{error}\n", 503)  # a folder was moved; it may come back

    hosts = [*LOOPBACK, "[::1]"] if host in LOOPBACK else ["*"]
    return Starlette(
        routes=[Route("/", page), Route(f"/{ADDRESS}", data)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts), Middleware(GZipMiddleware)],
        exception_handlers={UserError: unreadable, OSError: unreadable},
    )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address; port 0 is any that is free.

    Raises:
        UserError: the port is taken or not allowed, or there is no such address here.
    """
    if not 0 <= port < 2**16:
        raise UserError(f"--port {port}: must be 0 to 65535; 0 takes any that is free")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"--host {host}: there is no such address ({error.strerror})") from None
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(address)
        bound.listen()  # who reads the address that is printed may come before the server is up
    except OSError as error:
        bound.close()
        raise UserError(
            f"{host}:{port} can't be used ({error.strerror}): give another --port; 0 takes any free one"
        ) from None
    return bound


def serve(folders: Sequence[Path], host: str, port: int) -> None:
    """Serve the page of the folders until Ctrl-C; prints the address first.

    Raises:
        UserError: see `listen`; or there is no such folder.
    """
    page_of(folders)
    with contextlib.closing(listen(host, port)) as bound:
        name = f"[{host}]" if ":" in host else host
        print(
            f"watching {', '.join(map(str, folders))}: open http://{name}:{bound.getsockname()[1]}",
            flush=True,
        )
        settings = uvicorn.Config(
            application(folders, host), log_level="warning", timeout_graceful_shutdown=1, server_header=False
        )
        uvicorn.Server(settings).run(sockets=[bound])
