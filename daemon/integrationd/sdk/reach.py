"""Whether hosts can be reached, without sending them a request.

With https the handshake has to be completed with a certificate that is trusted, which a captive
portal cannot do; for plain http there is the custom of a page that answers 204 and nothing else.
"""

import errno
import socket
from collections.abc import Iterable

import anyio
import httpx2
import msgspec

from integrationd.sdk.http import PreparedClient, prepare_client

LOOK_S = 3.0
NO_CONTENT = 204
# The machine knows no way there.
_NO_WAY = frozenset({errno.ENETUNREACH, errno.ENETDOWN})


class View(msgspec.Struct, frozen=True):
    """What was found when somebody was looked for.

    Attributes:
        is_there: Whether anybody can be reached; None where that could not be told.
        told: Who was tried, and what came of it, for a person.
    """

    is_there: bool | None
    told: str = ""


async def look_for_any(clients: Iterable[PreparedClient]) -> View:
    """Say whether one of the hosts can be reached; the first that can ends the look."""
    failures: list[str] = []
    reached: list[str] = []

    async def reach(client: PreparedClient) -> None:
        try:
            await client.reach(LOOK_S)
        except httpx2.HTTPError as error:
            failures.append(f"{client.host}: {_told(error)}")
            return
        reached.append(client.host)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for client in clients:
            group.start_soon(reach, client)
    if reached:
        return View(True, f"{reached[0]} can be reached.")
    return View(False, f"Nobody can be reached: {'; '.join(sorted(failures))}.")


async def look_from_here(client: PreparedClient) -> View:
    """Judge by one host alone: not there only where this machine itself knows no way.

    That is so where the kernel has no route, or none of the name servers answers.
    """
    try:
        await client.reach(LOOK_S)
    except httpx2.HTTPError as error:
        is_ours = any(map(_knows_no_way, _causes(error)))
        return View(False if is_ours else None, f"{client.host}: {_told(error)}.")
    return View(True, f"{client.host} can be reached.")


async def look_at(url: str) -> View:
    """Ask an address that was configured for it.

    Args:
        url: ``https://`` of a host whose handshake is enough, or ``http://`` of a page that
            answers 204.
    """
    target = httpx2.URL(url)
    origin = f"{target.scheme}://{target.netloc.decode('ascii')}"
    client = prepare_client(base_url=origin, timeout_s=LOOK_S, allow_private=True)
    try:
        if target.scheme == "https":
            return await look_for_any([client])
        return await _no_content(client, target.raw_path.decode("ascii"))
    finally:
        await client.aclose()


async def _no_content(client: PreparedClient, path: str) -> View:
    try:
        with anyio.fail_after(LOOK_S):
            answer = await client.get(path)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        return View(False, f"Nobody can be reached: {client.host}: {_told(error)}.")
    if answer.status_code == NO_CONTENT:
        return View(True, f"{client.host} answered.")
    return View(
        False,
        f"{client.host} answered {answer.status_code} and not 204, as a captive portal does.",
    )


def _knows_no_way(error: BaseException) -> bool:
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN
    return isinstance(error, OSError) and error.errno in _NO_WAY


def _causes(error: BaseException) -> Iterable[BaseException]:
    cause = error.__cause__
    while cause is not None:
        yield cause
        cause = cause.__cause__


def _told(error: BaseException) -> str:
    return str(error).rstrip(".") or "no answer in time"
