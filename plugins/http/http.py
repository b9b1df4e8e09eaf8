"""Any HTTP API: requests to one address, with the credentials and limits of the connection."""

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import quote, urlencode

import httpx2
import msgspec
import pydantic

from integrationd.sdk import (
    Context,
    Delivered,
    HttpProviderConfig,
    HttpRequest,
    Outcome,
    Provider,
    ProviderConfig,
    Retryable,
    SecretStr,
    Uncertain,
    classify,
    operation,
)
from integrationd.sdk.contracts.http import MAX_RESULT_BODY_BYTES, check_headers, check_path

Method: TypeAlias = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

_READING_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_IDEMPOTENT_METHODS = _READING_METHODS | {"PUT", "DELETE"}
_DEFAULT_METHODS: tuple[Method, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_UNREPORTED_HEADERS = frozenset(
    {"connection", "keep-alive", "set-cookie", "set-cookie2", "trailer", "transfer-encoding"}
)
_WESTERN_CHARSETS = frozenset({"iso-8859-1", "latin-1", "latin1", "windows-1252", "cp1252"})


def _sendable(secret: SecretStr) -> SecretStr:
    try:
        check_headers({"secret": secret.get_secret_value()})
    except ValueError:
        raise ValueError("contains a line break, or a character that headers cannot hold") from None
    return secret


def _header_name(name: str) -> str:
    check_headers({name: ""})
    return name


def _path(path: str) -> str:
    check_path(path)
    return path


HeaderName: TypeAlias = Annotated[str, pydantic.AfterValidator(_header_name)]
HeaderSecret: TypeAlias = Annotated[SecretStr, pydantic.AfterValidator(_sendable)]
Path: TypeAlias = Annotated[str, pydantic.AfterValidator(_path)]


class _Credential(ProviderConfig):
    """What a kind of credential adds to a request."""

    def headers(self) -> dict[str, str]:
        return {}

    def query(self) -> dict[str, str]:
        return {}

    def signature(self, _request: httpx2.Request, _now_ms: int) -> dict[str, str]:
        """Return the headers that depend on the bytes of the finished request."""
        return {}

    def header_names(self) -> Iterator[str]:
        """Yield the headers that are the connection's own."""
        yield from self.headers()


class NoAuth(_Credential):
    """Nothing."""

    kind: Literal["none"]


class HeaderAuth(_Credential):
    """A secret in a header, such as ``X-API-Key``."""

    kind: Literal["header"]
    name: HeaderName
    value: HeaderSecret

    def headers(self) -> dict[str, str]:
        """Return the secret under its name."""
        return {self.name: self.value.get_secret_value()}


class BearerAuth(_Credential):
    """A token that does not change."""

    kind: Literal["bearer"]
    token: HeaderSecret

    def headers(self) -> dict[str, str]:
        """Return the token as RFC 6750 has it."""
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}


class BasicAuth(_Credential):
    """A user's name and password."""

    kind: Literal["basic"]
    username: str = pydantic.Field(pattern="^[^:]*$")
    password: SecretStr

    def headers(self) -> dict[str, str]:
        """Return the pair as RFC 7617 has it."""
        pair = f"{self.username}:{self.password.get_secret_value()}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


class QueryAuth(_Credential):
    """A secret in the query, for services that know no better."""

    kind: Literal["query"]
    name: str = pydantic.Field(min_length=1)
    value: SecretStr

    def query(self) -> dict[str, str]:
        """Return the secret under its name."""
        return {self.name: self.value.get_secret_value()}


class HmacAuth(_Credential):
    """A signature over the bytes that are sent.

    Attributes:
        over: ``body``; ``method_path_body``: method, path without query, and body, joined by
            line feeds; ``timestamp_body``: seconds since 1970 and body, joined by a dot.
        timestamp_header: Where the seconds are sent; needed for ``timestamp_body``.
        prefix: What stands before the signature, for example ``sha256=``.
    """

    kind: Literal["hmac"]
    secret: SecretStr
    header: HeaderName = "X-Signature"
    algorithm: Literal["sha256", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    over: Literal["body", "method_path_body", "timestamp_body"] = "body"
    timestamp_header: HeaderName | None = None
    prefix: str = pydantic.Field(default="", pattern="^[!-~]*$")

    @pydantic.model_validator(mode="after")
    def _has_timestamp(self) -> "HmacAuth":
        if self.over == "timestamp_body" and self.timestamp_header is None:
            raise ValueError("over = 'timestamp_body' needs a timestamp_header")
        return self

    def header_names(self) -> Iterator[str]:
        """Yield where the signature and the time stand."""
        yield self.header
        if self.timestamp_header is not None:
            yield self.timestamp_header

    def signature(self, request: httpx2.Request, now_ms: int) -> dict[str, str]:
        """Sign the finished request."""
        seconds = str(now_ms // 1000)
        digest = hmac.new(
            self.secret.get_secret_value().encode(),
            self._message(request, seconds),
            getattr(hashlib, self.algorithm),
        ).digest()
        shown = digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode()
        headers = {self.header: f"{self.prefix}{shown}"}
        if self.timestamp_header is not None:
            headers[self.timestamp_header] = seconds
        return headers

    def _message(self, request: httpx2.Request, seconds: str) -> bytes:
        match self.over:
            case "body":
                return request.content
            case "method_path_body":
                path = request.url.raw_path.partition(b"?")[0]
                return b"\n".join((request.method.encode(), path, request.content))
            case "timestamp_body":
                return seconds.encode() + b"." + request.content


Credential: TypeAlias = Annotated[
    NoAuth | HeaderAuth | BearerAuth | BasicAuth | QueryAuth | HmacAuth,
    pydantic.Field(discriminator="kind"),
]


def _in_tuple(given: Any) -> Any:
    return given if isinstance(given, list | tuple) else (given,)


def _is_repeat_safe(provider: "Http", request: HttpRequest) -> bool:
    return request.method in _IDEMPOTENT_METHODS or provider.config.has_key


def _only_reads(_provider: "Http", request: HttpRequest) -> bool:
    return request.method in _READING_METHODS


def _key_lifetime_s(provider: "Http", request: HttpRequest) -> float | None:
    # An idempotent method needs no key, so it does not run out with one.
    keyed = provider.config.has_key and request.method not in _IDEMPOTENT_METHODS
    return provider.config.idempotency_lifetime_s if keyed else None


class Http(Provider):
    """Requests to an API for which there is no plugin of its own.

    Source: RFC 9110, HTTP Semantics, https://www.rfc-editor.org/rfc/rfc9110 (methods, statuses,
    Retry-After).
    Source: The Idempotency-Key HTTP Header Field, draft-ietf-httpapi-idempotency-key-header,
    https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/.
    """

    code = "http"

    class Config(HttpProviderConfig):
        """What calls of the connection may do, and what is added to them.

        Attributes:
            auth: One credential, or several, such as an API key and a signature.
            allowed_methods: What calls may use.
            path_prefixes: Where calls may go, below ``base_url``; whole path segments.
            headers: Sent with every request unless the call sets them.
            success: Statuses that are a success beside 2xx, for example 404 to a DELETE.
            retry_on: Statuses by which the API says that nothing happened and that trying again
                may help.
            idempotency: ``server`` if the API promises that requests with the same key have one
                effect; then a send of unknown outcome is repeated.
            idempotency_header: Where the API wants the key.
            idempotency_quoted: Whether it wants it in double quotes, as the IETF draft has it.
            idempotency_lifetime_s: Seconds for which it remembers a key.
            test_path: What the connection test reads.
        """

        auth: Annotated[tuple[Credential, ...], pydantic.BeforeValidator(_in_tuple)] = ()
        allowed_methods: tuple[Method, ...] = pydantic.Field(_DEFAULT_METHODS, min_length=1)
        path_prefixes: tuple[Path, ...] = pydantic.Field(("/",), min_length=1)
        headers: dict[str, str] = pydantic.Field(default_factory=dict)
        success: tuple[Annotated[int, pydantic.Field(ge=300, le=599)], ...] = ()
        retry_on: tuple[Annotated[int, pydantic.Field(ge=300, le=599)], ...] = ()
        idempotency: Literal["none", "server"] = "none"
        idempotency_header: HeaderName = "Idempotency-Key"
        idempotency_quoted: bool = False
        idempotency_lifetime_s: float = pydantic.Field(default=86_400.0, gt=0)
        test_path: Path = "/"

        @pydantic.field_validator("headers")
        @classmethod
        def _can_be_sent(cls, headers: dict[str, str]) -> dict[str, str]:
            check_headers(headers)
            return headers

        @property
        def has_key(self) -> bool:
            """Whether requests carry an idempotency key."""
            return self.idempotency == "server"

    config: Config

    @operation(
        "http.request",
        repeat_safe=_is_repeat_safe,
        reads_only=_only_reads,
        key_lifetime_s=_key_lifetime_s,
    )
    async def request(self, request: HttpRequest, ctx: Context) -> Outcome:
        """Send one request; what httpx2 raises is left to the daemon."""
        response = await ctx.http.send(self._signed(request, ctx))
        status, now_ms = response.status_code, ctx.clock.now_ms()
        outcome = classify.of_status(response, now_ms)
        if outcome is None or status in self.config.success:
            return Delivered(result=_result(response))
        if status in self.config.retry_on:
            return Retryable(
                reason=f"http_{status}",
                detail=f"The provider answered {status}, on which the connection retries.",
                wait_s=classify.retry_after_s(response.headers.get("Retry-After", ""), now_ms),
            )
        if status == 409 and ctx.attempt > 1 and self._carries_key(request):
            return Uncertain(
                reason="key_in_use",
                detail="The provider answered 409: an earlier attempt may still be under way.",
            )
        return outcome

    async def test_connection(self, ctx: Context) -> str:
        """Read ``test_path`` and say what came back.

        Raises:
            PermissionError: The credentials were refused.
            ConnectionError: The server has a fault of its own.
        """
        request = HttpRequest(method="GET", path=self.config.test_path)
        response = await ctx.http.send(self._signed(request, ctx))
        answer = f"GET {self.config.test_path} was answered with {response.status_code}"
        if response.status_code in {401, 403}:
            raise PermissionError(f"the credentials were refused: {answer}")
        if response.is_server_error:
            raise ConnectionError(f"the server is at fault: {answer}")
        return answer

    def unsupported(self, operation: str, request: HttpRequest) -> str | None:
        """Say what the connection does not allow."""
        allowed = self.config.allowed_methods
        if request.method not in allowed:
            return f"this connection allows {', '.join(allowed)}, not {request.method}"
        prefixes = self.config.path_prefixes
        if not any(_is_below(request.path, prefix) for prefix in prefixes):
            return f"this connection allows paths below {', '.join(prefixes)} only"
        own = {name.lower() for name in self._own_headers(request)}
        clash = sorted(name for name in request.headers if name.lower() in own)
        if clash:
            return f"this connection sets {', '.join(clash)} itself"
        return None

    def _own_headers(self, request: HttpRequest) -> Iterator[str]:
        for credential in self.config.auth:
            yield from credential.header_names()
        if self._carries_key(request):
            yield self.config.idempotency_header

    def _carries_key(self, request: HttpRequest) -> bool:
        return self.config.has_key and request.method not in _READING_METHODS

    def _signed(self, request: HttpRequest, ctx: Context) -> httpx2.Request:
        """Build the request; signatures are made over the very bytes that are sent."""
        body, content_type = _body(request)
        built = ctx.http.build_request(
            request.method,
            self._target(request),
            content=body,
            headers=_encoded(
                {"Content-Type": content_type} if content_type else {},
                self.config.headers,
                request.headers,
                self._key(request, ctx),
                *(credential.headers() for credential in self.config.auth),
            ),
            timeout=self._timeout(request, ctx),
        )
        for credential in self.config.auth:
            built.headers.update(credential.signature(built, ctx.clock.now_ms()))
        return built

    def _timeout(self, request: HttpRequest, ctx: Context) -> httpx2.Timeout | float:
        if request.timeout_s is None:
            return ctx.http.timeout
        return min(request.timeout_s, ctx.timeout_s)

    def _target(self, request: HttpRequest) -> str:
        pairs = list(_pairs(request.query))
        for credential in self.config.auth:
            pairs.extend(credential.query().items())
        return f"{request.path}?{urlencode(pairs, quote_via=quote)}" if pairs else request.path

    def _key(self, request: HttpRequest, ctx: Context) -> Mapping[str, str]:
        if not self._carries_key(request):
            return {}
        key = ctx.idempotency_key
        return {
            self.config.idempotency_header: f'"{key}"' if self.config.idempotency_quoted else key
        }


def _is_below(path: str, prefix: str) -> bool:
    whole = prefix.rstrip("/")
    return path == whole or path.startswith(f"{whole}/")


def _body(request: HttpRequest) -> tuple[bytes, str]:
    if isinstance(request.json, msgspec.Raw):
        return bytes(request.json), "application/json"
    if request.form is not None:
        encoded = urlencode(list(_pairs(request.form))).encode()
        return encoded, "application/x-www-form-urlencoded"
    if request.text is not None:
        return request.text.encode(), "text/plain; charset=utf-8"
    return b"", ""


def _pairs(fields: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        for one in (
            value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        ):
            yield name, one if isinstance(one, str) else msgspec.json.encode(one).decode()


def _encoded(*layers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Join headers; later layers replace earlier ones, however their names are spelt."""
    joined: dict[str, tuple[bytes, bytes]] = {}
    for layer in layers:
        for name, value in layer.items():
            joined[name.lower()] = name.encode(), value.encode("latin-1")
    return list(joined.values())


def _result(response: httpx2.Response) -> dict[str, Any]:
    """Return what the contract promises as the result."""
    content = response.content
    result: dict[str, Any] = {
        "status": response.status_code,
        "headers": {
            name: value
            for name, value in response.headers.items()
            if name not in _UNREPORTED_HEADERS
        },
    }
    if len(content) > MAX_RESULT_BODY_BYTES:
        kept = content[:MAX_RESULT_BODY_BYTES]
        return {**result, "body": _text(kept, response), "truncated": True}
    if content:
        result["body"] = _value(content, response)
    return result


def _value(content: bytes, response: httpx2.Response) -> Any:
    if "json" in response.headers.get("Content-Type", "").partition(";")[0].lower():
        try:
            return msgspec.json.decode(content.removeprefix(b"\xef\xbb\xbf"))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return _text(content, response)
    return _text(content, response)


def _text(content: bytes, response: httpx2.Response) -> str:
    # Other charsets than these are too rare, and some codecs too dangerous, to let a reply choose.
    charset = (response.charset_encoding or "").lower()
    return content.decode("cp1252" if charset in _WESTERN_CHARSETS else "utf-8", "replace")
