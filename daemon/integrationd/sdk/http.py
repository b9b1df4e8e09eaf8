"""The HTTP client that a plugin is handed: the API of ``httpx2.AsyncClient``, bound to one host.

It speaks to the host of its base URL and to no other, follows no redirect, keeps no cookie, reads
no environment and never repeats a request.
"""

import functools
import json as stdlib_json
import logging
import ssl
from typing import Any

import httpx2

from integrationd import __version__
from integrationd.sdk.contracts.http import check_path
from integrationd.sdk.transport import MAX_CONNECTIONS, Transport

USER_AGENT = f"integrationd/{__version__}"
CONNECT_S = 10.0

_REMEMBERED_URLS = 512
_LIBRARY_OPTIONS = ("content", "data", "files", "json", "cookies")
_LENGTHY_METHODS = frozenset({"POST", "PUT", "PATCH"})

# The library logs every URL with its query, secrets and all.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


class PreparedClient(httpx2.AsyncClient):
    """A client bound to one base URL; made by :func:`prepare_client`."""

    def __init__(
        self,
        *,
        base_url: str,
        transport: httpx2.AsyncBaseTransport,
        headers: dict[str, str],
        timeout: httpx2.Timeout,
    ) -> None:
        super().__init__(
            base_url=base_url,
            transport=transport,
            headers=headers,
            timeout=timeout,
            follow_redirects=False,
            trust_env=False,
        )
        # Absent, it would invite any coding; the transport decodes gzip sent all the same.
        self.headers["Accept-Encoding"] = "identity"
        del self.headers["Connection"]
        self._own_transport = transport if isinstance(transport, Transport) else None
        self._bound_to = _bound_to(base_url)
        self._prefix = base_url.rstrip("/")
        self._url_of = functools.lru_cache(_REMEMBERED_URLS)(self._joined)

    @property
    def host(self) -> str:
        """The host that it is bound to."""
        return self._bound_to.host

    async def reach(self, connect_s: float) -> None:
        """Make sure that the host can be reached, without sending it a request.

        Raises:
            httpx2.ConnectError, httpx2.ConnectTimeout: It cannot.
        """
        if self._own_transport is not None:
            await self._own_transport.reach(self._bound_to, connect_s)

    def beside(self, base_url: str) -> "PreparedClient":
        """Return a client of another host that shares connections and rules with this one.

        Close this one; the other then serves no more.

        Raises:
            httpx2.InvalidURL: The base URL is none.
        """
        return PreparedClient(
            base_url=base_url,
            transport=self._transport,
            headers={"User-Agent": self.headers["User-Agent"]},
            timeout=self.timeout,
        )

    def build_request(self, method: str, url: httpx2.URL | str, **options: Any) -> httpx2.Request:
        """Build a request to a path below the base URL.

        Args:
            method: The HTTP method.
            url: A path from the base URL on, with or without a query.
            options: As ``httpx2.AsyncClient.build_request`` takes them.

        Raises:
            httpx2.InvalidURL: The path leads elsewhere or is none.
        """
        target = self._url_of(str(url))
        params = options.get("params")
        if params or self.params:
            target = target.copy_with(params=self.params.merge(params))
        extensions = self._with_timeout(options)
        body, content_type = _plain_body(options)
        if body is None or options.get("cookies"):
            rest = {name: options.get(name) for name in _LIBRARY_OPTIONS}
            headers = _merged(self.headers, options.get("headers"))
            return httpx2.Request(method, target, headers=headers, extensions=extensions, **rest)
        own = {b"Host": target.netloc}
        if body or method in _LENGTHY_METHODS:
            own[b"Content-Length"] = b"%d" % len(body)
        if content_type:
            own[b"Content-Type"] = content_type
        headers = _merged(self.headers, options.get("headers"), own)
        request = httpx2.Request(
            method, target, headers=headers, stream=httpx2.ByteStream(body), extensions=extensions
        )
        request.read()
        return request

    async def send(
        self, request: httpx2.Request, *, stream: bool = False, **options: Any
    ) -> httpx2.Response:
        """Send a request to the bound host; the whole response is read.

        Args:
            request: What :meth:`build_request` made.
            stream: Accepted for the sake of the API; the response is read all the same.
            options: ``auth`` as in httpx2; ``follow_redirects`` must not be True.

        Raises:
            httpx2.RequestError: See :mod:`integrationd.sdk.transport` for which means what.
            httpx2.InvalidURL: The request is for another host.
        """
        self._check_bound(request.url)
        if options.get("follow_redirects") is True:
            raise ValueError("redirects are not followed; read the Location header instead")
        auth = options.get("auth", httpx2.USE_CLIENT_DEFAULT)
        wants_auth = (auth if _is_given(auth) else self.auth) is not None
        if self._own_transport is None or wants_auth or any(self.event_hooks.values()):
            return await super().send(request, stream=stream, **options)
        if self.is_closed:
            raise RuntimeError("the client has been closed")
        if "timeout" not in request.extensions:
            request.extensions["timeout"] = self.timeout.as_dict()
        return await self._own_transport.handle_async_request(request)

    def _with_timeout(self, options: dict[str, Any]) -> dict[str, Any]:
        extensions = dict(options.get("extensions") or ())
        if "timeout" not in extensions:
            timeout = options.get("timeout", httpx2.USE_CLIENT_DEFAULT)
            chosen = httpx2.Timeout(timeout) if _is_given(timeout) else self.timeout
            extensions["timeout"] = chosen.as_dict()
        return extensions

    def _joined(self, url: str) -> httpx2.URL:
        """Append a path to the base URL.

        Raises:
            httpx2.InvalidURL: It leads elsewhere or is none.
        """
        path, mark, query = url.partition("?")
        if path and not path.startswith("/"):
            if ":" in path.partition("/")[0]:
                raise httpx2.InvalidURL(f"{_shown(path)}: give a path below the base URL")
            path = f"/{path}"
        try:
            if path:
                check_path(path)
            joined = httpx2.URL(f"{self._prefix}{path}{mark}{query}")
        except ValueError as error:
            raise httpx2.InvalidURL(f"{_shown(path)}: {error}") from error
        self._check_bound(joined)
        return joined

    def _check_bound(self, url: httpx2.URL) -> None:
        bound = self._bound_to
        if (url.raw_host, url.port, url.scheme, url.userinfo) != (
            bound.raw_host,
            bound.port,
            bound.scheme,
            bound.userinfo,
        ):
            raise httpx2.InvalidURL(f"{url.host} is not the host of this connection, {bound.host}")


def prepare_client(
    *,
    base_url: str,
    timeout_s: float,
    allow_private: bool = False,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    max_connections: int = MAX_CONNECTIONS,
    transport: httpx2.AsyncBaseTransport | None = None,
) -> PreparedClient:
    """Make the client of one connection.

    Args:
        base_url: Scheme, host and optional path that every request goes to.
        timeout_s: Seconds for which the other side may be silent, in either direction.
        allow_private: Let requests go to private, loopback and link-local addresses.
        headers: Sent with every request.
        tls: What https is spoken with; verified against the system's authorities when None.
        max_connections: At a time.
        transport: What sends instead; for tests.

    Raises:
        httpx2.InvalidURL: The base URL is none.
    """
    own = transport or Transport(
        allow_private=allow_private, tls=tls, max_connections=max_connections
    )
    timeout = httpx2.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s))
    return PreparedClient(
        base_url=base_url,
        transport=own,
        headers={"User-Agent": USER_AGENT, **(headers or {})},
        timeout=timeout,
    )


def _bound_to(base_url: str) -> httpx2.URL:
    url = httpx2.URL(base_url)
    if url.scheme not in {"http", "https"} or not url.host:
        raise httpx2.InvalidURL(f"{base_url!r} is not an http:// or https:// address")
    if url.userinfo or url.query or url.fragment:
        raise httpx2.InvalidURL("a base URL has no user, query or fragment")
    return url


def _plain_body(options: dict[str, Any]) -> tuple[bytes | None, bytes]:
    """Return the body with its content type, or None for one that the library has to encode."""
    content = options.get("content")
    if isinstance(content, bytes):
        return content, b""
    if isinstance(content, str):
        return content.encode(), b""
    if content is not None or options.get("data") or options.get("files"):
        return None, b""
    value = options.get("json")
    if value is None:
        return b"", b""
    text = stdlib_json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(), b"application/json"


def _merged(
    defaults: httpx2.Headers, given: Any, own: dict[bytes, bytes] | None = None
) -> list[tuple[bytes, bytes]]:
    """Join headers; what is given goes before what is computed, and that before the defaults."""
    chosen = httpx2.Headers(given).raw if given else []
    names = {name.lower() for name, _ in chosen}
    computed = [pair for pair in (own or {}).items() if pair[0].lower() not in names]
    names.update(name.lower() for name, _ in computed)
    inherited = [pair for pair in defaults.raw if pair[0].lower() not in names]
    return [*computed, *inherited, *chosen]


def _is_given(option: Any) -> bool:
    return option is not httpx2.USE_CLIENT_DEFAULT


def _shown(path: str) -> str:
    return repr(path if len(path) < 80 else f"{path[:77]}...")
