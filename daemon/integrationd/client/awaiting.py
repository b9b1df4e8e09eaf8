"""The client for programs that run on an event loop, asyncio or trio."""

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack

import httpx2

from integrationd.client.address import Address
from integrationd.client.exchange import Heard, Lost, Pause, Plan, Reply, Request, lost, reply_of
from integrationd.client.plans import Plans, event_filters
from integrationd.client.records import (
    Call,
    CallOptions,
    Event,
    Ledger,
    NewCall,
    Resolution,
    Status,
)
from integrationd.client.stream import is_stream
from integrationd.clock import SystemClock

_T = TypeVar("_T")


class AsyncClient:
    """A daemon that answers requests. Tasks may share one; close it, or use it in ``async with``.

        async with AsyncClient() as client:
            call = await client.send("sms.send", {"to": "+254711000111", "message": "Hi"}, wait=10)
            print(call.state, call.result)

    Whatever can be repeated without harm is repeated while the daemon restarts, is busy or breaks
    off, for as long as ``patience`` lasts. Calls are handed over under an idempotency key, so that
    a lost answer makes no second call.

    Args:
        socket: The daemon's Unix socket; else that of ``INTEGRATIOND_SOCKET``, else the usual one.
        url: Scheme, host and port, to use TCP in place of the socket.
        key: The API key that TCP asks for.
        timeout: Seconds after which an answer counts as lost, beyond those it was asked to wait.
        patience: Seconds from the first failure for which a request is repeated.

    Raises:
        ValueError: The address makes no sense.
    """

    def __init__(
        self,
        socket: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        key: str | None = None,
        timeout: float = 30.0,
        patience: float = 30.0,
    ) -> None:
        self._address = Address.find(socket, url, key, os.environ)
        over_socket = self._address.transport_settings()
        transport = httpx2.AsyncHTTPTransport(**over_socket) if over_socket else None
        self._http = httpx2.AsyncClient(transport=transport, **self._address.settings(timeout))
        self._clock = SystemClock()
        self._plans = Plans(self._clock.monotonic, patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    # Calls

    async def send(
        self,
        operation: str,
        payload: Mapping[str, Any] | None = None,
        *,
        wait: float = 0.0,
        key: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Call:
        """Hand a call over and return it; it is safe on the daemon's disk then.

        Args:
            operation: What is to be done, for example ``sms.send``.
            payload: With what, as the operation's contract says.
            wait: Seconds to wait at most until it has been attempted. The call is returned as it
                is then: ``is_open`` if there was no result in time.
            key: The idempotency key; give one that you keep, and repeating is safe even after a
                crash of your program.
            **options: See :class:`CallOptions`.

        Raises:
            ProblemError: The daemon does not accept it.
            UnreachableError: No answer came; ``maybe_arrived`` says whether it may have been
                accepted, and ``idempotency_key`` with which key to try again.
        """
        new = NewCall(operation=operation, payload=payload or {}, idempotency_key=key, **options)
        return await self._carry_out(self._plans.send(new, wait))

    async def send_many(self, calls: Sequence[NewCall]) -> list[Call]:
        """Hand up to 1,000 calls over, all or none, and return them in this order.

        Raises:
            ProblemError: One of them is not accepted; ``problem.pointer`` names it.
            UnreachableError: No answer came.
        """
        return await self._carry_out(self._plans.send_many(calls))

    async def call(self, call_id: str) -> Call:
        """Return a call with its payload, parts and attempts.

        Raises:
            NotFoundError: There is none of that id.
            ClientError: It cannot be read.
        """
        return await self._carry_out(self._plans.call(call_id))

    async def wait(self, call_id: str, within: float = 30.0, *, final: bool = False) -> Call:
        """Wait until a call has been attempted, and return it as it is then.

        Args:
            call_id: The call.
            within: Seconds to wait at most; when they are over, it is returned as it is.
            final: Wait until nothing more becomes of it by itself: a payment until it is made or
                refused, not only until the customer was asked.

        Raises:
            NotFoundError: There is none of that id.
            ClientError: It cannot be read.
        """
        return await self._carry_out(self._plans.wait(call_id, within, is_final=final))

    async def calls(self, **filters: str | None) -> AsyncIterator[Call]:
        """Yield calls, the latest first, as many as there are.

        Args:
            **filters: ``state``, ``operation``, ``connection``, ``tenant``, ``reference_type`` and
                ``reference_id``.

        Raises:
            ClientError: They cannot be read.
        """
        cursor: str | None = None
        while True:
            page = await self._carry_out(self._plans.call_page(filters, cursor))
            for one in page.items:
                yield one
            cursor = page.next
            if cursor is None:
                return

    async def cancel(self, call_id: str) -> Call:
        """Call a pending call off, and return it.

        Raises:
            ConflictError: It is pending no more.
            ClientError: It cannot be done.
        """
        return await self._carry_out(self._plans.cancel(call_id))

    async def retry(self, call_id: str) -> Call:
        """Have a failed or expired call sent again, and return it.

        Raises:
            ConflictError: It is neither.
            UnreachableError: No answer came; look at the call before you repeat this.
        """
        return await self._carry_out(self._plans.retry(call_id))

    async def resolve(self, call_id: str, resolution: Resolution, note: str = "") -> Call:
        """Settle a call of unknown outcome, once you know what became of it, and return it.

        Args:
            call_id: The call.
            resolution: ``done``, ``refused``, or ``repeat`` to have it sent again.
            note: How you know; kept with the call.

        Raises:
            ConflictError: Its outcome is known.
            UnreachableError: No answer came; look at the call before you repeat this.
        """
        return await self._carry_out(self._plans.resolve(call_id, resolution, note))

    # Events

    async def publish(
        self,
        event_type: str,
        data: Mapping[str, Any],
        *,
        tenant: str | None = None,
        key: str | None = None,
    ) -> Event:
        """Publish an event of the app's own for all who are told of it, and return it.

        Args:
            event_type: Lower-case words with dots, for example ``customer.enrolled``.
            data: What happened.
            tenant: Whose event it is.
            key: The idempotency key; give one that you keep, and repeating is safe even after a
                crash of your program.

        Raises:
            ProblemError: The daemon does not take it.
            UnreachableError: No answer came; with the key in ``idempotency_key`` it is safe to try
                again.
        """
        return await self._carry_out(self._plans.publish(event_type, data, tenant, key))

    def events(
        self,
        *,
        after: int | None = None,
        types: Sequence[str] = (),
        tenant: str | None = None,
        follow: bool = True,
    ) -> AsyncGenerator[Event, None]:
        """Yield events as they happen, each once and in order, for as long as it is iterated.

        A cut line is connected again, and goes on where it was cut. Keep the ``seq`` of the last
        event that you have dealt with: after a restart, go on with it as ``after``. Leave the loop
        within ``contextlib.aclosing``, so that the line is closed at once.

        Args:
            after: Begin behind the event of this number, 0 for the first that is kept; None begins
                with what happens next.
            types: Only these types; ``call.*`` means all that begin so.
            tenant: Only those of this tenant.
            follow: False ends with the last event that there is, in place of waiting for more;
                without ``after`` it begins with the first that is kept.

        Raises:
            GoneError: The events behind ``after`` are not kept any more.
            ProblemError: The daemon refuses.
            UnreachableError: The first connection cannot be made.
        """
        filters = event_filters(types, tenant)
        return (self._followed if follow else self._past)(after, filters)

    async def _past(
        self, after: int | None, filters: Mapping[str, str]
    ) -> AsyncGenerator[Event, None]:
        seen = after or 0
        while True:
            page = await self._carry_out(self._plans.event_page(seen, filters))
            for one in page.items:
                yield one
            if int(page.next) <= seen:
                return
            seen = int(page.next)

    async def _followed(
        self, after: int | None, filters: Mapping[str, str]
    ) -> AsyncGenerator[Event, None]:
        follower = self._plans.follower(after, filters)
        while True:
            came: Reply | Lost | None = None
            try:
                async with self._http.stream(**follower.arguments()) as response:
                    if is_stream(response.status_code, response.headers):
                        async for chunk in response.aiter_bytes():
                            for event in follower.take(chunk):
                                yield event
                    else:
                        await response.aread()
                        came = reply_of(response)
            except httpx2.RequestError as error:
                came = lost(self._address, error)
            await self._pause(follower.pause_after(came))

    # Everything else

    async def ledger(self) -> Ledger:
        """Return how many calls were accepted, and where they are now.

        Raises:
            ClientError: It cannot be read.
        """
        return await self._carry_out(self._plans.ledger())

    async def status(self) -> Status:
        """Return how the daemon is.

        Raises:
            ClientError: It cannot be read.
        """
        return await self._carry_out(self._plans.status())

    async def items(self, path: str, **filters: str | None) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of any list, for example ``/v1/attempts``, as many as there are.

        Raises:
            ClientError: They cannot be read.
        """
        cursor: str | None = None
        while True:
            page = await self._carry_out(self._plans.page(path, filters, cursor))
            for one in page.items:
                yield one
            cursor = page.next
            if cursor is None:
                return

    async def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask for anything else that the API offers, and return the JSON of its answer.

        Only GET and PUT are repeated after a lost answer.

        Raises:
            ProblemError: The daemon refuses.
            UnreachableError: No answer came.
        """
        return await self._carry_out(self._plans.request(method, path, body, params))

    async def _carry_out(self, plan: Plan[_T]) -> _T:
        step = next(plan)
        while True:
            heard: Heard = None
            if isinstance(step, Pause):
                await self._pause(step)
            else:
                heard = await self._exchange(step)
            try:
                step = plan.send(heard)
            except StopIteration as end:
                result: _T = end.value
                return result

    async def _pause(self, step: Pause) -> None:
        await self._clock.sleep(step.seconds)

    async def _exchange(self, request: Request) -> Reply | Lost:
        arguments = request.arguments(self._http.timeout)
        try:
            response = await self._http.request(request.method, request.path, **arguments)
        except httpx2.RequestError as error:
            return lost(self._address, error)
        return reply_of(response)
