"""Who may ask, and what browsers are told: the guard before every address.

Nothing is answered before the guard let it pass. On loopback the Host header must name loopback, so that no site that somebody
visits can make a name of its own point here (DNS rebinding); elsewhere a token is needed. What another site has a browser ask
for is refused, by what browsers say of themselves (`Sec-Fetch-Site`, `Origin`); only a link to a page that a person follows is
answered. It cannot keep out other accounts of the same machine on loopback, unless a token is asked for there too; and it does
not encrypt.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""What a page may load and do: our own files, and nothing inline."""
MAX_ADDRESS: Final = 8_000
"""Characters of an address."""
MAX_HEADERS: Final = 64_000
"""Characters of all headers."""
_SCHEMES: Final = ("http", "https")
HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class RequestGuard:
    """Asks for host and token, and puts our headers on every answer."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, token: str | None, cookie: str = "gasp") -> None:
        """Guard an app.

        Args:
            app: what is guarded.
            hosts: names that the Host header may give, without port; None allows any.
            token: what must be known; None asks for none.
            cookie: name under which browsers keep it.
        """
        self._app = app
        self._hosts = hosts
        self._token = token
        self._cookie = cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or have the app answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await (self._refused(scope) or self._app)(scope, receive, sending)

    def _refused(self, scope: Scope) -> Response | None:
        """An answer in place of the app's."""
        headers = Headers(scope=scope)
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_ADDRESS:
            return PlainTextResponse(f"The address is longer than {MAX_ADDRESS} characters; request less at once.\n", 414)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
            return PlainTextResponse(f"The headers are longer than {MAX_HEADERS} characters; send fewer.\n", 431)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            return PlainTextResponse(f"This viewer answers to {names} only; open it under one of these names.\n", 421)
        if not _from_here(headers, scope):
            message = "Another site had your browser request this, which is refused; open the address yourself.\n"
            return PlainTextResponse(message, 403)
        if self._token is None or self._knows(_kept(headers.get("cookie", ""), self._cookie)):
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._knows(sent):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._knows(next((value for name, value in query if name == "token"), "")):
            # The token leaves the address, where it would be seen, for a cookie.
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/\\")
            answer = RedirectResponse(f"/{path}{'?' if rest else ''}{rest}", 303)
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return answer
        message = "A token is needed; open the address with ?token= that the viewer printed when it started.\n"
        return PlainTextResponse(message, 401, {"WWW-Authenticate": "Bearer"})

    def _knows(self, given: str) -> bool:
        return self._token is not None and hmac.compare_digest(given.encode("utf-8", "surrogatepass"), self._token.encode())


def _from_here(headers: Headers, scope: Scope) -> bool:
    """Whether the request is of one of our own pages, of a person, or of a program that is no browser."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"{scheme}://{headers.get('host', '').lower()}" for scheme in _SCHEMES}:
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    followed = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-user": "?1"}
    return scope["method"] == "GET" and all(headers.get(name) == value for name, value in followed.items())


def _name(host: str) -> str:
    """The Host header without its port."""
    return host.rpartition(":")[0].lower() if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host.lower()


def _kept(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if found is None else found.value
