"""Trying a connection's credentials: what its plugin finds, in words for whoever has to mend it."""

import dataclasses
from typing import assert_never

import anyio
import structlog

from integrationd.call import DEFAULT_TENANT, new_call_id
from integrationd.clock import Clock
from integrationd.delivery.answers import fault_of
from integrationd.masking import Masker
from integrationd.registry import Connection
from integrationd.registry.containment import contained
from integrationd.sdk import outcome as said
from integrationd.sdk.context import Context
from integrationd.sdk.exchange import recording
from integrationd.sdk.provider import UnsupportedError

LONGEST_S = 20.0
SHOWN_CHARACTERS = 500

_CREDENTIALS = (
    "Compare the credentials with those that the provider shows, and see that they are those of"
    " its {environment} environment."
)
_HINTS = {
    "dns_failure": "Check the host in the connection's config, and that this machine can look up"
    " names.",
    "connection_refused": "Nothing listens there: check host and port in the connection's config.",
    "connect_failure": "Check host and port in the connection's config, and this machine's link.",
    "connect_timeout": "Check this machine's link, and whether a firewall is in the way.",
    "timeout": "The provider took too long: try again, and see whether it has an outage.",
    "tls_failure": "The server's certificate is not trusted or not for this host: check the host,"
    " the machine's clock and its certificates.",
    "target_refused": "If that address is meant, have an admin of all tenants set allow_private in"
    " the connection's config.",
    "invalid_request": "Check base_url in the connection's config.",
    "http_404": "Check base_url in the connection's config: the provider has nothing there.",
    "throttled": "The provider wants fewer requests for now: try again later.",
}
_NO_ANSWER = (
    "Check host and port in the connection's config, and this machine's link; else the provider has"
    " a fault of its own."
)
_PLUGIN_AT_FAULT = "This is a fault of the plugin; the daemon's log says more."
_UNTESTED = "Nothing was tried: send a call through the connection to see whether it works."


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a test has found.

    Attributes:
        ok: Whether the provider took the credentials.
        message: What was found.
        hint: What to do about it; empty where there is nothing to do.
        duration_ms: How long it took.
    """

    ok: bool
    message: str
    hint: str = ""
    duration_ms: int = 0


async def check_connection(connection: Connection, masker: Masker, clock: Clock) -> Checked:
    """Have a connection's plugin try its credentials, without any effect.

    Args:
        connection: The live connection.
        masker: Masks what is told, with the connection's secrets.
        clock: Where time is read.
    """
    began = clock.monotonic()
    with connection.held():
        found = await _found(connection, clock)
    return Checked(
        ok=found.ok,
        message=masker.text(found.message)[:SHOWN_CHARACTERS],
        hint=masker.text(found.hint)[:SHOWN_CHARACTERS],
        duration_ms=max(0, round((clock.monotonic() - began) * 1000)),
    )


async def _found(connection: Connection, clock: Clock) -> Checked:
    ctx = _context(connection, clock)
    within_s = min(connection.timeout_s, LONGEST_S)
    with recording(ctx.mark_sent):
        try:
            with anyio.fail_after(within_s), contained():
                told = await connection.provider.test_connection(ctx)
        except UnsupportedError as error:
            return Checked(ok=False, message=str(error), hint=_UNTESTED)
        except PermissionError as error:
            hint = _CREDENTIALS.format(environment=connection.environment)
            return Checked(ok=False, message=_words(error), hint=hint)
        except TimeoutError:
            message = f"no answer within {within_s:g} s"
            return Checked(ok=False, message=message, hint=_HINTS["timeout"])
        except Exception as error:  # noqa: BLE001 - plugins may raise anything
            return _explained(error, connection, ctx.sent, clock.now_ms())
    return Checked(ok=True, message=str(told) if told else "the provider took the credentials")


def _explained(error: Exception, connection: Connection, sent: bool | None, now_ms: int) -> Checked:
    """Say what an exception means, as for a send, and what to do about it."""
    meant = fault_of(error, sent, now_ms)
    match meant:
        case said.Rejected() | said.Retryable() | said.Uncertain():
            reason, detail = meant.reason, meant.detail
        case said.Throttled():
            reason, detail = "throttled", meant.detail
        case said.Delivered() | said.Accepted():
            return Checked(ok=True, message="the provider took the credentials")
        case _:
            assert_never(meant)
    if isinstance(error, ConnectionError):
        # What a plugin says of an answer that it could not use, or of a transport of its own.
        return Checked(ok=False, message=_words(error), hint=_NO_ANSWER)
    return Checked(
        ok=False, message=detail or _words(error), hint=_hint(reason, connection.environment)
    )


def _hint(reason: str, environment: str) -> str:
    if reason in {"bad_credentials", "http_401", "http_403"}:
        return _CREDENTIALS.format(environment=environment)
    if reason == "plugin_error":
        return _PLUGIN_AT_FAULT
    return _HINTS.get(reason, "The provider may have a fault of its own: try again later.")


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


def _context(connection: Connection, clock: Clock) -> Context:
    call_id = new_call_id(clock.now_ms())
    return Context(
        call_id=call_id,
        tenant=connection.tenant or DEFAULT_TENANT,
        operation="",
        connection=connection.name,
        environment=connection.environment,
        attempt=1,
        reference=call_id,
        idempotency_key=call_id,
        timeout_s=min(connection.timeout_s, LONGEST_S),
        clock=clock,
        log=structlog.get_logger("integrationd.plugin").bind(connection=connection.name),
        client=connection.client,
        tokens=connection.tokens(clock),
        fetch_token=connection.provider.fetch_token,
    )
