"""The door of the server: every request passes it before a route sees it, and every response after.

It checks Host (against DNS rebinding) and Origin (against other pages), asks for the token where there is one, reads
the body within its bounds, and gives every response its headers.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from typing import Any, final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from align.serve.bodies import Bodies
from align.serve.logs import describe, log, tell_request
from align.serve.metrics import Metrics, name_route
from align.serve.refusal import Refusal, shorten
from align.serve.respond import HEADERS, refuse
from align.serve.service import Service

COOKIE = "align_token"
HEAD_BYTES = 16 << 10
OPEN = ("/healthz", "/docs.css")  # paths that need no token
HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^\[\]:/@\s]+))(?::[0-9]{0,5})?")  # of RFC 9110, section 7.2


@final
class Guard:
    """An ASGI application around another. hosts: names, besides the address that a client has reached, of this server.

    token: clients send it as ``Authorization: Bearer``. A browser opens ``/?token=TOKEN`` and gets a cookie.
    """

    def __init__(self, app: ASGIApp, service: Service, metrics: Metrics, *, hosts: Collection[str], token: str = ""):
        self._app = app
        self._service = service
        self._metrics = metrics
        self._hosts = {host.lower().strip("[]") for host in hosts}
        self._token = token
        self._bodies = Bodies(service.limits)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500
        begun = ended = False

        async def seal(message: Message) -> None:
            nonlocal status, begun, ended
            if message["type"] == "http.response.start":
                begun, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self._service.stopping:
                    headers["connection"] = "close"  # so that the client's next request goes to another server
            await send(message)
            ended = message["type"] == "http.response.body" and not message.get("more_body", False)

        try:
            await self._pass(scope, receive, seal)
        except Exception as error:
            if not isinstance(error, Refusal):
                log.error("%s %s failed: %s", *name_route(scope), describe(error))
            if ended:
                return
            if begun:
                raise  # the connection ends in the middle of the response, which tells the client
            known = error if isinstance(error, Refusal) else Refusal(500, "the server failed; its log says how")
            await refuse(known, scope)(scope, receive, seal)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.count(scope, status, seconds)
            tell_request(*name_route(scope), status, seconds)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._service.draining:
            raise Refusal(503, "this server is stopping; ask again when it has started anew", code="draining", retry=5)
        self._service.open += 1
        try:
            await self._check(scope, receive, send)
        finally:
            self._service.open -= 1

    async def _check(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES:
            raise Refusal(431, f"the headers are too long; at most {HEAD_BYTES} bytes are read")
        self._check_host(scope, headers)
        self._check_origin(scope, headers)
        if self._token and scope["path"] not in OPEN:
            moved = self._check_token(scope, headers)
            if moved is not None:
                await moved(scope, receive, send)
                return
        if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            with self._bodies.hold() as held:
                body = await held.read(headers, receive)
                await self._app(scope, _replay(body, receive), send)
        else:
            await self._app(scope, receive, send)

    def _check_host(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        reached = (scope.get("server") or ("", 0))[0]
        if not (name := _name(host)) or name not in (*self._hosts, reached):
            raise Refusal(
                421,
                f"the host {shorten(host)} is not served here; it is an address of this server, or a name that "
                "align serve --allow-host gives",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Refuse requests that a page of another site sends. A browser names the site, a program need not."""
        origin, host = headers.get("origin"), headers.get("host", "").lower()
        if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
            raise Refusal(403, f"pages of {shorten(origin)} may not ask this server; open its own page")
        site = headers.get("sec-fetch-site", "none")
        if site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate":
            raise Refusal(403, "pages of other sites may not ask this server; open its own page")
        if site in ("cross-site", "same-site") and scope["method"] not in ("GET", "HEAD"):
            raise Refusal(403, "forms of other sites may not be sent to this server; open its own page")

    def _check_token(self, scope: Scope, headers: Headers) -> Any:
        """Return a redirect that sets the cookie for ``?token=``, or None. Raises Refusal (401)."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._fits(given.strip()):
            return None
        if self._fits(_cookie(headers.get("cookie", ""))):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if scope["method"] == "GET" and self._fits(dict(query).get("token", "")):
            left = urlencode([(name, value) for name, value in query if name != "token"])
            moved = RedirectResponse(scope["path"] + (f"?{left}" if left else ""), 303)
            moved.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return moved
        raise Refusal(401, "this server asks for its token: Authorization: Bearer TOKEN, or open /?token=TOKEN")

    def _fits(self, given: str) -> bool:
        """Compare in constant time."""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode("utf-8", "replace"))


def _name(host: str) -> str:
    """Return a Host header's name, without its port and the brackets of IPv6. "": it has another form.

    >>> _name("[::1]:8000"), _name("localhost:8000"), _name("[::1]evil.example")
    ('::1', 'localhost', '')
    """
    found = HOST.fullmatch(host)
    return "" if found is None else (found[1] or found[2]).lower().rstrip(".")


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was read, and then waits for the client to leave."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
