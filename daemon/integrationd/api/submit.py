"""Submitting: one call, a batch, or a short form; waiting for the result where that is asked."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from integrationd.api.accept import READ_WAIT_S, Acceptor, decode
from integrationd.api.replies import Reply, json_reply
from integrationd.api.roles import Caller
from integrationd.api.schemas import BatchRequest, CallRequest, CallView, call_view
from integrationd.api.waiting import Waiters, is_settled
from integrationd.api.wording import in_words
from integrationd.call import Call, CallState
from integrationd.errors import RequestError, UnprocessableError
from integrationd.journal import Journal, Receipt

BATCH_LIMIT = 1000
WAIT_LIMIT_S = 60.0
_WAIT = re.compile(r'(?:^|[,;])\s*wait\s*=\s*("?)(\d{1,99})\1\s*(?:$|[,;])')
OPTIONS = (
    "connection",
    "tenant",
    "priority",
    "ordering_key",
    "not_before",
    "expires_at",
    "expires_in",
    "reference_type",
    "reference_id",
    "on_uncertain",
)


class TimeIsUpError(RequestError):
    """The answer did not come in time; nothing is tried any more."""

    status = 504
    code = "no_answer"
    hint = "The provider may be slow or out of reach; see the call's attempts."


class Submitter:
    """Accepts calls for the API's routes.

    Args:
        acceptor: Checks and keeps them.
        journal: Where results are read.
        waiters: Wakes requests that wait.
    """

    def __init__(self, acceptor: Acceptor, journal: Journal, waiters: Waiters) -> None:
        self._acceptor = acceptor
        self._journal = journal
        self._waiters = waiters

    async def one(self, caller: Caller, body: bytes, prefer: str | None, key: str | None) -> Reply:
        """Answer ``POST /v1/calls``.

        Raises:
            IntegrationdError: The call cannot be accepted.
        """
        request: CallRequest = decode(CallRequest, body)
        if request.idempotency_key is not None:
            raise UnprocessableError(
                "the key of a single call travels in the Idempotency-Key header",
                pointer="/idempotency_key",
            )
        return await self._submit(_with_key(request, key), caller, prefer)

    async def short(
        self,
        caller: Caller,
        operation: str,
        body: bytes,
        options: Mapping[str, str],
        prefer: str | None,
        key: str | None,
    ) -> Reply:
        """Answer ``POST /v1/{category}/{verb}``: the body is the payload.

        Raises:
            IntegrationdError: The call cannot be accepted.
        """
        request = msgspec.structs.replace(
            _from_options(operation, options), payload=msgspec.Raw(body or b"{}")
        )
        return await self._submit(_with_key(request, key), caller, prefer)

    async def batch(self, caller: Caller, body: bytes) -> Reply:
        """Answer ``POST /v1/calls/batch``: all or none, in one commit.

        Raises:
            IntegrationdError: One of the calls cannot be accepted; the pointer names it.
        """
        batch: BatchRequest = decode(BatchRequest, body)
        if not 0 < len(batch.calls) <= BATCH_LIMIT:
            raise UnprocessableError(
                f"a batch has 1 to {BATCH_LIMIT} calls, this one {len(batch.calls)}",
                pointer="/calls",
            )
        receipts = await self._acceptor.accept(batch.calls, caller, below="/calls")
        return json_reply({"items": [_view_of(receipt) for receipt in receipts]}, 202)

    async def look(self, call_id: str, prefer: str | None, within: str | None) -> Call:
        """Return a call, once it has left the open states or the wait is over.

        Args:
            call_id: Its id.
            prefer: The ``Prefer`` header.
            within: The tenant that it must be of; any if None.

        Raises:
            NotFoundError: There is none of that id.
        """
        seconds = _wait_s(prefer)
        if seconds:
            await self._wait(call_id, seconds, within)
        return await self._journal.calls.get(call_id, within)

    async def _wait(self, call_id: str, seconds: float, within: str | None) -> None:
        await self._waiters.until_settled(
            call_id, seconds, lambda: self._journal.calls.get(call_id, within)
        )

    async def _submit(self, request: CallRequest, caller: Caller, prefer: str | None) -> Reply:
        asked_s = _wait_s(prefer)
        (receipt,) = await self._acceptor.accept(
            [request], caller, read_within_s=asked_s or READ_WAIT_S
        )
        reads = receipt.call is not None and self._acceptor.only_reads(receipt.call)
        seconds = asked_s or (READ_WAIT_S if reads else 0.0)
        if seconds and receipt.call is not None:
            return await self._after_waiting(receipt, seconds, reads)
        headers = _headers(receipt)
        return json_reply(_view_of(receipt), 202, headers)

    async def _after_waiting(self, receipt: Receipt, seconds: float, reads: bool) -> Reply:
        await self._wait(receipt.call_id, seconds, None)
        detail = await self._journal.calls.detail(receipt.call_id)
        if reads and (detail.call.state is CallState.EXPIRED or not is_settled(detail.call)):
            raise TimeIsUpError(
                f"Call {receipt.call_id}: {detail.call.detail or 'no answer in time.'}"
            )
        view = call_view(detail.call)
        if detail.result is not None:
            view = msgspec.structs.replace(view, result=msgspec.Raw(detail.result))
        status = 200 if is_settled(detail.call) else 202
        return json_reply(view, status, _headers(receipt))


def _with_key(request: CallRequest, key: str | None) -> CallRequest:
    return request if key is None else msgspec.structs.replace(request, idempotency_key=key)


def _view_of(receipt: Receipt) -> CallView | dict[str, Any]:
    if receipt.call is None:
        return {"id": receipt.call_id, "state": "pruned"}
    return call_view(receipt.call)


def _headers(receipt: Receipt) -> list[tuple[bytes, bytes]]:
    headers = [(b"location", f"/v1/calls/{receipt.call_id}".encode())]
    if receipt.is_replay:
        headers.append((b"idempotency-replayed", b"true"))
    return headers


def _wait_s(prefer: str | None) -> float:
    """Return the seconds of ``Prefer: wait=N`` (RFC 7240), at most a minute."""
    found = _WAIT.search(prefer.lower()) if prefer else None
    return min(float(found[2]), WAIT_LIMIT_S) if found else 0.0


def _from_options(operation: str, options: Mapping[str, str]) -> CallRequest:
    fields: dict[str, Any] = {**options, "operation": operation}
    kind, ident = fields.pop("reference_type", None), fields.pop("reference_id", None)
    if ident is not None:
        fields["reference"] = {"type": kind or "", "id": ident}
    elif kind is not None:
        raise UnprocessableError("reference_type in the query needs a reference_id beside it")
    try:
        return msgspec.convert(fields, CallRequest, strict=False)
    except msgspec.ValidationError as error:
        message, pointer = in_words(CallRequest, str(error))
        raise UnprocessableError(f"{pointer.lstrip('/')} in the query: {message}") from None
