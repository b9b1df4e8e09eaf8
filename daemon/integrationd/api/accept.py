"""Accepting calls: a request is checked, placed and kept; then, and only then, it is answered."""

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from integrationd.api.allowance import Allowances
from integrationd.api.idempotency import checked
from integrationd.api.ports import Placement
from integrationd.api.roles import Caller
from integrationd.api.schemas import PRIORITIES, CallRequest
from integrationd.api.tenancy import refuse_inactive, tenant_for_new
from integrationd.api.wording import in_words
from integrationd.call import DEFAULT_TENANT, Call, new_call_id, pinned_lane, route_lane
from integrationd.clock import Clock, from_datetime
from integrationd.errors import (
    BadRequestError,
    NotAvailableError,
    RequestError,
    UnprocessableError,
)
from integrationd.journal import Journal, NewCall, Receipt
from integrationd.registry import Connection, Tenants
from integrationd.sdk.contract import Contract
from integrationd.sdk.contracts import CATALOGUE

READ_WAIT_S = 10.0
METADATA_LIMIT_BYTES = 16 * 1024
FARTHEST_MS = 10 * 366 * 86_400_000

_canonical = msgspec.json.Encoder(order="deterministic").encode


class Acceptor:
    """Turns requests into kept calls.

    Args:
        journal: Where calls are kept.
        placement: Which connection serves what.
        tenants: Whose calls are taken.
        clock: Where time is read.
    """

    def __init__(
        self, journal: Journal, placement: Placement, tenants: Tenants, clock: Clock
    ) -> None:
        self._allowances = Allowances(tenants, journal, clock)
        self._placement = placement
        self._tenants = tenants
        self._clock = clock

    async def accept(
        self,
        requests: Sequence[CallRequest],
        caller: Caller,
        *,
        below: str = "",
        read_within_s: float = READ_WAIT_S,
    ) -> list[Receipt]:
        """Keep the calls, all or none; they are safe on disk when this returns.

        Args:
            requests: The calls.
            caller: Whose wish it is; who is of a tenant makes calls of that one.
            below: JSON pointer to the array that they came in; empty for one by itself.
            read_within_s: Seconds after which the answer to a call that only reads is of no use.

        Raises:
            RequestError: One of them cannot be accepted; nothing was kept.
            JournalError: The journal cannot take them.
        """
        new = []
        for number, request in enumerate(requests):
            try:
                new.append(self._new_call(request, caller, read_within_s))
            except RequestError as error:
                if below:
                    error.pointer = f"{below}/{number}{error.pointer}"
                raise
        return await self._allowances.accept(new)

    def only_reads(self, call: Call) -> bool:
        """Say whether a call has no effect, so that its request waits for the answer."""
        contract = CATALOGUE.get(call.operation)
        if contract is None:
            connection = self._placement.of_lane(call.lane)
            served = connection.plugin.operations.get(call.operation) if connection else None
            return served is not None and not served.contract.effect
        return not contract.effect

    def _new_call(self, request: CallRequest, caller: Caller, read_within_s: float) -> NewCall:
        _refuse_unavailable(request)
        tenant = self._tenant(request, caller)
        connection = self._placement.for_new_call(request.operation, request.connection, tenant)
        contract = _contract_of(request.operation, connection)
        typed = decode(contract.request, request.payload, "/payload")
        _refuse_unsupported(connection, request.operation, typed)
        # Of what only asks it is the reference of another call.
        own = getattr(typed, "reference", None) if contract.effect else None
        now_ms = self._clock.now_ms()
        recipients = tuple(contract.recipients(typed))
        return NewCall(
            call=self._call(
                request,
                tenant,
                connection,
                own,
                now_ms,
                _expiry(request, contract, now_ms, read_within_s),
            ),
            payload=bytes(request.payload),
            metadata=_metadata(request),
            recipients=recipients if len(recipients) > 1 else (),
            idempotency_key=checked(request.idempotency_key),
            digest=_digest(request, tenant) if request.idempotency_key is not None else b"",
        )

    def _tenant(self, request: CallRequest, caller: Caller) -> str:
        """Return whose call it is to be.

        Raises:
            UnprocessableError: There is no such tenant, as far as the caller may know.
            NotAllowedError: It is suspended.
        """
        tenant = tenant_for_new(caller, request.tenant)
        refuse_inactive(self._tenants, tenant)
        return tenant

    def _call(
        self,
        request: CallRequest,
        tenant: str,
        connection: Connection | None,
        own_reference: Any,
        now_ms: int,
        expires_at_ms: int | None,
    ) -> Call:
        requested, route = request.connection, route_lane(tenant, request.operation)
        due_ms = max(now_ms, _moment(request.not_before, "/not_before", now_ms) or now_ms)
        give_up_ms = now_ms + round(self._placement.give_up_after_s(connection) * 1000)
        has_own = isinstance(own_reference, str) and bool(own_reference)
        scope = connection.name if connection else _scope_of_route(tenant, request.operation)
        return Call(
            id=new_call_id(now_ms),
            tenant=tenant,
            operation=request.operation,
            lane=pinned_lane(requested, tenant) if requested else route,
            connection=requested,
            requested_connection=requested,
            priority=PRIORITIES[request.priority],
            created_at_ms=now_ms,
            due_at_ms=due_ms,
            expires_at_ms=expires_at_ms,
            give_up_at_ms=max(give_up_ms, due_ms + give_up_ms - now_ms),
            own_reference=own_reference if has_own else None,
            reference_scope=scope if has_own else None,
            reference_type=request.reference.type if request.reference else None,
            reference_id=request.reference.id if request.reference else None,
            on_uncertain=request.on_uncertain,
        )


def decode(kind: Any, body: bytes | msgspec.Raw, pointer: str = "") -> Any:
    """Decode JSON into a struct.

    Raises:
        BadRequestError: It is not JSON.
        UnprocessableError: It does not keep the struct's rules; the error points at the member.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        message, member = in_words(kind, str(error))
        raise UnprocessableError(message, code="invalid", pointer=pointer + member) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(
            f"the body is not valid JSON: {error}", code="not_json", pointer=pointer
        ) from None
    except RecursionError:
        raise BadRequestError(
            "the body is nested too deeply", code="too_deep", pointer=pointer
        ) from None


def _contract_of(operation: str, connection: Connection | None) -> Contract:
    if connection is not None:
        return connection.plugin.operations[operation].contract
    contract = CATALOGUE.get(operation)
    if contract is None:
        raise UnprocessableError(
            f"there is no operation {operation!r}", code="unknown_operation", pointer="/operation"
        )
    return contract


def _refuse_unavailable(request: CallRequest) -> None:
    if request.ordering_key is not None:
        raise NotAvailableError(
            "ordering keys are not available in this version", pointer="/ordering_key"
        )


def _scope_of_route(tenant: str, operation: str) -> str:
    """Return within what references are unique while no connection is known."""
    return operation if tenant == DEFAULT_TENANT else route_lane(tenant, operation)


def _refuse_unsupported(connection: Connection | None, operation: str, typed: Any) -> None:
    if connection is None:
        return
    reason = connection.provider.unsupported(operation, typed)
    if reason:
        raise UnprocessableError(
            f"connection {connection.name!r} cannot do this: {reason}",
            code="unsupported",
            pointer="/payload",
        )


def _moment(at: Any, pointer: str, now_ms: int) -> int | None:
    if at is None:
        return None
    try:
        moment = from_datetime(at)
    except (ValueError, OverflowError) as error:
        raise UnprocessableError(str(error), pointer=pointer) from None
    if not 0 < moment <= now_ms + FARTHEST_MS:
        raise UnprocessableError(
            "this time is out of range: it must lie between 1970 and ten years from now",
            pointer=pointer,
        )
    return moment


def _expiry(
    request: CallRequest, contract: Contract, now_ms: int, read_within_s: float
) -> int | None:
    """Return when a call expires. What only reads is never held for later, whatever was asked."""
    asked_ms = _asked_expiry(request, now_ms)
    if not contract.effect:
        soon_ms = now_ms + round(read_within_s * 1000)
        return soon_ms if asked_ms is None else min(soon_ms, asked_ms)
    if asked_ms is None and contract.expires_in_s is not None:
        return now_ms + round(contract.expires_in_s * 1000)
    return asked_ms


def _asked_expiry(request: CallRequest, now_ms: int) -> int | None:
    seconds = request.expires_in
    if seconds is None:
        return _moment(request.expires_at, "/expires_at", now_ms)
    if request.expires_at is not None:
        raise UnprocessableError("give expires_at or expires_in, not both", pointer="/expires_in")
    if not 0 < seconds <= FARTHEST_MS / 1000:
        raise UnprocessableError(
            "expires_in must be a number of seconds between 0 and ten years",
            pointer="/expires_in",
        )
    return now_ms + round(seconds * 1000)


def _metadata(request: CallRequest) -> bytes | None:
    raw = bytes(request.metadata)
    if raw == b"null":
        return None
    if len(raw) > METADATA_LIMIT_BYTES:
        raise UnprocessableError(
            f"metadata is over {METADATA_LIMIT_BYTES} bytes", pointer="/metadata"
        )
    decode(dict[str, Any], raw, "/metadata")
    return raw


def _digest(request: CallRequest, tenant: str) -> bytes:
    """Return the SHA-256 of the request as parsed, so that white space makes no difference.

    Nor does it make one whether the tenant was named or went without saying.
    """
    fields = msgspec.structs.asdict(request)
    del fields["idempotency_key"]
    fields["tenant"] = None if tenant == DEFAULT_TENANT else tenant
    for name in ("payload", "metadata"):
        fields[name] = decode(Any, fields[name], f"/{name}")
    return hashlib.sha256(_canonical(fields)).digest()
