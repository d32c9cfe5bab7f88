"""The guard that every request passes first: Host header, token, origin, and the security headers of responses.

Guarantees:
- On loopback the Host header must name loopback, so that no site can point a name of its own here (DNS rebinding).
- Elsewhere a token is needed.
- Requests that another site causes (`Sec-Fetch-Site`, `Origin`) are refused, except for a link that a person follows.

Not responsible for: other accounts of the same machine on loopback without a token; encryption.
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
"""Pages load the viewer's own files, and nothing inline."""
MAX_ADDRESS: Final = 8_000
"""Characters of an address, at most."""
MAX_HEADERS: Final = 64_000
"""Characters of all headers together, at most."""
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
    """Whether an address is reachable from this machine alone."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class RequestGuard:
    """Checks requests, and adds headers to every response."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str] | None, token: str | None, cookie: str = "gasp") -> None:
        """Guard an app: `hosts` are names that the Host header may have, without port; None allows any."""
        self._app, self._hosts, self._token, self._cookie = app, hosts, token, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, or pass the request to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache" if scope["path"].startswith("/static/") else "no-store")
            await send(message)

        await (self._refused(scope) or self._app)(scope, receive, send_with_headers)

    def _refused(self, scope: Scope) -> Response | None:
        """The response to a request that is refused; None where it may pass."""
        headers = Headers(scope=scope)
        if len(scope.get("raw_path", b"")) + len(scope["query_string"]) > MAX_ADDRESS:
            return PlainTextResponse(f"The address is longer than {MAX_ADDRESS} characters; request less at once.\n", 414)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
            return PlainTextResponse(f"The headers are longer than {MAX_HEADERS} characters; send fewer.\n", 431)
        if self._hosts is not None and _name(headers.get("host", "")) not in self._hosts:
            names = ", ".join(sorted(self._hosts))
            return PlainTextResponse(f"This viewer answers to {names} only; open it under one of these names.\n", 421)
        if not _is_same_origin(headers, scope):
            message = "Another site had your browser request this, which is refused; open the address yourself.\n"
            return PlainTextResponse(message, 403)
        if self._token is None or self._is_token(_cookie_value(headers.get("cookie", ""), self._cookie)):
            return None
        scheme, _, sent = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(sent):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if self._is_token(next((value for name, value in query if name == "token"), "")):
            # Move the token from the address, where it would be seen, into a cookie.
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").lstrip("/\\")
            response = RedirectResponse(f"/{path}{'?' if rest else ''}{rest}", 303)
            response.set_cookie(self._cookie, self._token, httponly=True, samesite="strict")
            return response
        message = "A token is needed; open the address with ?token= that the viewer printed when it started.\n"
        return PlainTextResponse(message, 401, {"WWW-Authenticate": "Bearer"})

    def _is_token(self, value: str) -> bool:
        return self._token is not None and hmac.compare_digest(value.encode("utf-8", "surrogatepass"), self._token.encode())


def _is_same_origin(headers: Headers, scope: Scope) -> bool:
    """Whether a request comes from a page of the viewer, a person, or a program that is not a browser."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in {f"{scheme}://{headers.get('host', '').lower()}" for scheme in _SCHEMES}:
        return False
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return True
    navigation = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-user": "?1"}
    return scope["method"] == "GET" and all(headers.get(name) == value for name, value in navigation.items())


def _name(host: str) -> str:
    """A Host header without its port, in lower case."""
    return host.rpartition(":")[0].lower() if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host.lower()


def _cookie_value(header: str, name: str) -> str:
    try:
        cookie = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return "" if cookie is None else cookie.value
