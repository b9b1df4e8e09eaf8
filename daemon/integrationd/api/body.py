"""A request's body, read whole and never past its limit."""

from starlette.types import Receive

from integrationd.errors import IntegrationdError, TooLargeError


class ClientGoneError(IntegrationdError):
    """The client went away before its request was complete; there is nobody to answer."""

    code = "client_gone"


async def read_body(receive: Receive, limit: int) -> bytes:
    """Read a request's body.

    Args:
        receive: The ASGI channel of the request.
        limit: The largest body, in bytes.

    Raises:
        TooLargeError: The body is over the limit; what is left of it is not read.
        ClientGoneError: The client went away before the end.
    """
    body, is_last = await _next_piece(receive)
    if is_last and len(body) <= limit:
        return body
    whole = bytearray(body)
    while len(whole) <= limit:
        if is_last:
            return bytes(whole)
        body, is_last = await _next_piece(receive)
        whole += body
    raise too_large(limit)


def too_large(limit: int) -> TooLargeError:
    """Return the error of a body over ``limit`` bytes."""
    return TooLargeError(
        f"the body is larger than {limit} bytes", hint=f"Send at most {limit} bytes in one request."
    )


async def _next_piece(receive: Receive) -> tuple[bytes, bool]:
    message = await receive()
    if message["type"] != "http.request":
        raise ClientGoneError
    return message.get("body", b""), not message.get("more_body", False)
