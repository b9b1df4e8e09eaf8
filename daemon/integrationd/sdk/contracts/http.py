"""What the generic HTTP provider promises: one request to the connection's own address."""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeAlias
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Meta

from integrationd.sdk.contract import Contract, Request, Result

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
MAX_RESULT_BODY_BYTES = 256 * 1024

_BODILESS_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",  # codespell:ignore te
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# Nearly all paths are of this kind, which none of the rules below could refuse.
_PLAIN_PATH = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9._~-]*+)++/?")
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_DECODINGS = 4

Scalar: TypeAlias = str | int | float | bool
Fields: TypeAlias = dict[
    Annotated[str, Meta(min_length=1, max_length=256)], Scalar | tuple[Scalar, ...]
]
HeaderName: TypeAlias = Annotated[str, Meta(min_length=1, max_length=128)]
HeaderValue: TypeAlias = Annotated[str, Meta(max_length=8192)]


class HttpRequest(Request, frozen=True, kw_only=True):
    """One request to the connection's own address.

    Attributes:
        method: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
        path: From the connection's ``base_url`` on, with its leading slash and without a query.
        query: Query parameters; a list gives the parameter several times.
        headers: Headers beside those of the connection.
        json: A body sent as JSON, byte for byte as it was given.
        form: A body sent as an HTML form.
        text: A body sent as plain text, unless ``headers`` name another type.
        timeout_s: Seconds to wait for the reply, where less than the connection's.
    """

    method: Annotated[str, Meta(extra_json_schema={"enum": list(METHODS)})]
    path: Annotated[str, Meta(min_length=1, max_length=4096)]
    query: Annotated[Fields, Meta(max_length=200)] = msgspec.field(default_factory=dict)
    headers: Annotated[dict[HeaderName, HeaderValue], Meta(max_length=64)] = msgspec.field(
        default_factory=dict
    )
    json: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    form: Fields | None = None
    text: str | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=300)] | None = None

    def __post_init__(self) -> None:
        """Check what the types alone do not say.

        Raises:
            ValueError: A member cannot be sent as it stands.
        """
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, in upper case")
        check_path(self.path)
        check_headers(self.headers)
        self._check_body()

    def _check_body(self) -> None:
        bodies = [
            name
            for name, body in (("json", self.json), ("form", self.form), ("text", self.text))
            if body is not None and body is not msgspec.UNSET
        ]
        if len(bodies) > 1:
            raise ValueError(f"give only one of {' and '.join(bodies)}")
        if bodies and self.method in _BODILESS_METHODS:
            raise ValueError(f"a {self.method} request has no body; leave {bodies[0]} out")
        if isinstance(self.json, msgspec.Raw):
            _check_json(self.json)


class HttpResult(Result, frozen=True, kw_only=True):
    """What the other side answered.

    Attributes:
        status: The HTTP status.
        headers: Its headers, without cookies and those that concern the connection only.
        body: The value if it is JSON, else text; at most 256 KiB.
        truncated: Whether the body was longer; it is text then.
    """

    status: int
    headers: Mapping[str, str]
    body: Any = None
    truncated: bool = False


def check_path(path: str) -> None:
    """Check that a path is one, and that it stays below what it is appended to.

    Raises:
        ValueError: It could lead elsewhere, or contains what a path cannot.
    """
    if _PLAIN_PATH.fullmatch(path):
        return
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError("path must begin with one slash")
    if "?" in path or "#" in path:
        raise ValueError("path must not contain '?' or '#'; give parameters in query")
    if _BAD_PERCENT.search(path):
        raise ValueError("path contains a '%' that is not followed by two hex digits")
    for reading in _readings(path):
        if _CONTROL.search(reading) or "\\" in reading:
            raise ValueError("path must not contain control characters or backslashes")
        if any(segment.partition(";")[0] in (".", "..") for segment in reading.split("/")):
            raise ValueError("path must not contain '.' or '..' as a segment")


def check_headers(headers: Mapping[str, str]) -> None:
    """Check that headers can be sent, and that none of them is the daemon's to set.

    Raises:
        ValueError: One of them cannot, or is.
    """
    names = {name.lower() for name in headers}
    if len(names) < len(headers):
        raise ValueError("headers must not name the same header twice")
    refused = sorted(names & _OWN_HEADERS)
    if refused:
        raise ValueError(f"headers must not set {', '.join(refused)}; the daemon does")
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no header name")
        if _HEADER_CONTROL.search(value):
            raise ValueError(f"header {name} must not contain line breaks or control characters")
        if not _is_latin1(value):
            raise ValueError(f"header {name} must not contain characters outside Latin-1")


def _readings(path: str) -> Iterable[str]:
    """Yield a path as it stands and as servers that decode it once or more often would read it."""
    for _ in range(_MAX_DECODINGS):
        yield path
        decoded = unquote_to_bytes(path).decode("utf-8", "replace")
        if decoded == path:
            return
        path = decoded


def _is_latin1(value: str) -> bool:
    return not value or ord(max(value)) < 256


def _check_json(raw: msgspec.Raw) -> None:
    try:
        msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"json is not usable JSON: {error}") from None


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        operation="http.request",
        request=HttpRequest,
        result=HttpResult,
        on_uncertain="hold",
        summary="Send one HTTP request to the connection's own address.",
    ),
)
