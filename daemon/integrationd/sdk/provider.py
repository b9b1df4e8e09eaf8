"""The plugin contract: a provider declares its code, its config model and what it can do.

A provider object serves one connection. It is made once per connection, used by many attempts at
a time, and closed when the last of them has ended.
"""

import dataclasses
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, TypeVar

import msgspec
import pydantic

from integrationd.sdk.contract import Contract
from integrationd.sdk.oauth import OAuth, TokenRequests
from integrationd.sdk.outcome import Finding, Outcome
from integrationd.sdk.token_keeping import Token
from integrationd.sdk.webhook import Notice, Proof, Refusal, WebhookReply, WebhookRequest

if TYPE_CHECKING:
    from integrationd.sdk.context import Context

CODE_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}")
OPERATION_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,39}\.[a-z][a-z0-9_]{0,39}")

RequestRule: TypeAlias = bool | Callable[[Any, Any], bool]
KeyLifetime: TypeAlias = float | Callable[[Any, Any], float | None] | None
SendMethod: TypeAlias = Callable[[Any, Any, "Context"], Awaitable[Outcome]]
QueryMethod: TypeAlias = Callable[[Any, "Asked", "Context"], Awaitable[Finding]]
_Send = TypeVar("_Send", bound=Callable[..., Awaitable[Outcome]])
_Query = TypeVar("_Query", bound=Callable[..., Awaitable[Finding]])

_OPERATION_MARK = "__integrationd_operation__"
_QUERY_MARK = "__integrationd_query__"


class ProviderConfig(pydantic.BaseModel):
    """Base of every provider's config: unknown keys are refused, values never change."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class HttpProviderConfig(ProviderConfig):
    """Config that every provider reached over HTTP shares.

    Attributes:
        base_url: Scheme, host and optional path that every request goes to. Plugins override the
            default with the provider's own address; sandboxes, simulators and proxies set it.
        allow_private: Let requests go to private, loopback and link-local addresses.
        max_reply_bytes: The largest reply body that is read; a plugin may set a smaller one.
    """

    max_reply_bytes: ClassVar[int] = 10 * 1024 * 1024

    base_url: str
    allow_private: bool = False

    @pydantic.field_validator("base_url")
    @classmethod
    def _is_http_url(cls, value: str) -> str:
        if not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", value):
            raise ValueError(
                "must be http:// or https:// with a host, without user, query, fragment"
            )
        return value


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class QuerySchedule:
    """When a call of unknown or open outcome is asked about.

    Attributes:
        first_s: Seconds from the send to the first query.
        factor: Each further wait is this many times the one before.
        cap_s: The longest wait between two queries, in seconds.
        window_s: Seconds after the send at which asking ends.
    """

    first_s: float = 5.0
    factor: float = 2.0
    cap_s: float = 900.0
    window_s: float = 72 * 3600.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing that a provider can do, as declared with :func:`operation`.

    Attributes:
        name: ``category.verb``.
        contract: The contract, or None to take the catalogue's.
        repeat_safe: Whether a send of unknown outcome may be sent again with the same key: a
            bool, or a function of the provider and the request.
        reads_only: Whether the request has no effect, so that a send of unknown outcome that
            may not be repeated any more has simply failed: a bool or such a function.
        key_lifetime_s: Seconds for which the provider honours the key, counted from the first
            attempt that may have arrived; None where it never runs out. A function of the
            provider and the request where it depends on them.
        method: The unbound method that sends.
    """

    name: str
    contract: Contract | None
    repeat_safe: RequestRule
    reads_only: RequestRule
    key_lifetime_s: KeyLifetime
    method: SendMethod


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """How a provider is asked what became of a send, as declared with :func:`query`."""

    name: str
    schedule: QuerySchedule
    method: QueryMethod


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call that the provider is asked about.

    Attributes:
        operation: ``category.verb`` of the send.
        request: The typed request as it was sent.
        provider_reference: The provider's own id, where the send brought one.
        sent_at_ms: When the first send that may have arrived began, UTC milliseconds.
    """

    operation: str
    request: Any
    provider_reference: str | None
    sent_at_ms: int


class ConnectionInfo(Protocol):
    """What a provider may know about the connection that it serves."""

    @property
    def name(self) -> str:
        """The connection's id."""
        ...

    @property
    def environment(self) -> str:
        """``sandbox`` or ``production``."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds that one attempt may take in all."""
        ...


class Provider:
    """Base of every plugin class.

    Subclasses set :attr:`code`, may define a nested ``Config``, and declare operations.

    Attributes:
        code: The provider's unique code.
        config: The validated config of the connection.
        connection: The connection that this object serves.
    """

    code: ClassVar[str]
    Config: ClassVar[type[ProviderConfig]] = ProviderConfig

    def __init__(self, config: Any, connection: ConnectionInfo) -> None:
        self.config = config
        self.connection = connection

    async def test_connection(self, ctx: "Context") -> str:
        """Try the credentials without any effect and say what was found.

        Raises:
            Exception: Whatever went wrong; it is shown to the operator, masked.
        """
        raise UnsupportedError(f"{self.code} has no connection test")

    def unsupported(self, operation: str, request: Any) -> str | None:
        """Say why this provider cannot do what the contract allows, or None if it can.

        Called before the call is accepted; must not block or touch the network.
        """
        return None

    async def aclose(self) -> None:
        """Release what the provider holds. Its HTTP client is closed for it."""

    def oauth(self) -> OAuth | None:
        """Return what the authorization server of this connection's config is like, if any."""
        return None

    async def fetch_token(self, ctx: "Context") -> Token:
        """Ask the authorization server for an access token; for ``ctx.token()``.

        What :meth:`oauth` declares is all that an ordinary server needs; override this for one
        that has a way of its own.

        Raises:
            OutcomeError: It refused; the outcome says what that means for the call.
        """
        profile = self.oauth()
        if profile is None:
            raise UnsupportedError(f"{self.code} uses no access tokens")
        refresh_token = ctx.tokens.refresh_token if ctx.tokens is not None else None
        return await TokenRequests(profile, ctx.http, ctx.clock).fetch(refresh_token)

    def verify_webhook(self, request: WebhookRequest) -> Proof:
        """Prove from the raw bytes that a webhook is the provider's.

        Must not block, nor touch the network. :mod:`integrationd.sdk.signatures` has the common
        schemes.
        """
        return Refusal("not_received", f"{self.code} receives no webhooks", 404)

    def read_webhook(self, request: WebhookRequest) -> Sequence[Notice]:
        """Say what a verified webhook tells; an unknown event is an empty list.

        Raises:
            UnreadableError: It cannot be understood.
        """
        return ()

    def webhook_reply(self, request: WebhookRequest) -> WebhookReply:
        """Return the reply that the provider expects once the webhook is kept."""
        return WebhookReply()

    async def decide_webhook(self, request: WebhookRequest) -> WebhookReply | None:
        """Answer a verified webhook that asks for a decision; None for one that only tells.

        The one method that may wait, at most as long as the provider does: the webhook is kept
        before it is called.
        """
        return None

    def claims_webhook(self, request: WebhookRequest) -> bool:
        """Say whether the account that a webhook names is that of this connection.

        Asked only where a webhook came to ``/webhooks/{provider}`` and there are several
        connections of that provider; the one that claims it then has to prove it with its own
        secret. Must not block, nor touch the network.
        """
        return False

    def answer_challenge(self, request: WebhookRequest) -> WebhookReply | None:
        """Answer a ``GET`` by which the provider makes sure of the address; None refuses it."""
        return None

    @classmethod
    def receives_webhooks(cls) -> bool:
        """Say whether the class reads webhooks."""
        return cls.read_webhook is not Provider.read_webhook

    @classmethod
    def uses_tokens(cls) -> bool:
        """Say whether the class fetches access tokens."""
        return cls.fetch_token is not Provider.fetch_token or cls.oauth is not Provider.oauth

    @classmethod
    def operations(cls) -> Mapping[str, Operation]:
        """Return what the class declares with :func:`operation`, by name."""
        return {found.name: found for found in _marked(cls, _OPERATION_MARK)}

    @classmethod
    def queries(cls) -> Mapping[str, Query]:
        """Return what the class declares with :func:`query`, by name."""
        return {found.name: found for found in _marked(cls, _QUERY_MARK)}


class UnsupportedError(Exception):
    """The provider has no such function."""


def _marked(cls: type, mark: str) -> Sequence[Any]:
    members = (getattr(cls, name, None) for name in dir(cls))
    return [getattr(member, mark) for member in members if hasattr(member, mark)]


def operation(
    name: str,
    *,
    repeat_safe: RequestRule,
    reads_only: RequestRule = False,
    key_lifetime_s: KeyLifetime = None,
    contract: Contract | None = None,
) -> Callable[[_Send], _Send]:
    """Declare that the decorated ``async def (self, request, ctx) -> Outcome`` does ``name``.

    Args:
        name: ``category.verb``; the contract of that name types the request.
        repeat_safe: Whether the provider lets the same request be sent twice with one effect: a
            bool, or a function of the provider and the request.
        reads_only: Whether the request has no effect at all.
        key_lifetime_s: Seconds for which the provider honours ``ctx.idempotency_key``.
        contract: Only for an operation that the SDK's catalogue does not have.

    Raises:
        ValueError: The name is not ``category.verb``.
    """
    if not OPERATION_PATTERN.fullmatch(name):
        raise ValueError(f"operation name {name!r} is not category.verb in lower case")

    def mark(method: _Send) -> _Send:
        declared = Operation(
            name=name,
            contract=contract,
            repeat_safe=repeat_safe,
            reads_only=reads_only,
            key_lifetime_s=key_lifetime_s,
            method=_coroutine(method),
        )
        setattr(method, _OPERATION_MARK, declared)
        return method

    return mark


def query(name: str, schedule: QuerySchedule | None = None) -> Callable[[_Query], _Query]:
    """Declare that the decorated ``async def (self, asked, ctx) -> Finding`` asks about it."""

    def mark(method: _Query) -> _Query:
        declared = Query(name=name, schedule=schedule or QuerySchedule(), method=_coroutine(method))
        setattr(method, _QUERY_MARK, declared)
        return method

    return mark


def _coroutine(method: Any) -> Any:
    if not inspect.iscoroutinefunction(method):
        raise TypeError(f"{method.__qualname__} must be an 'async def'")
    return method


def config_schema(config: type[ProviderConfig]) -> dict[str, Any]:
    """Return the JSON Schema of a provider's config, for forms and editors."""
    return config.model_json_schema()


def request_schema(contract: Contract) -> dict[str, Any]:
    """Return the JSON Schema of a contract's request."""
    return msgspec.json.schema(contract.request)
