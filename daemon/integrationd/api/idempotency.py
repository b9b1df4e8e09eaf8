"""Idempotency keys as clients send them."""

from collections.abc import Sequence

from integrationd.errors import BadRequestError

KEY_LIMIT = 255


def key_of(shown: Sequence[bytes]) -> str | None:
    """Return the key of a request by its ``Idempotency-Key`` headers; None where there is none.

    Raises:
        BadRequestError: There are two, or it is not UTF-8.
    """
    if not shown:
        return None
    if len(shown) > 1:
        raise BadRequestError("Idempotency-Key is given twice", code="doubled_header")
    try:
        return shown[0].decode()
    except UnicodeDecodeError:
        raise BadRequestError("Idempotency-Key is not UTF-8", code="bad_idempotency_key") from None


def checked(key: str | None) -> str | None:
    """Return the key if it can be one, or None.

    Raises:
        BadRequestError: It is empty, too long, or not printable.
    """
    if key is not None and not (0 < len(key) <= KEY_LIMIT and key.isprintable()):
        raise BadRequestError(
            f"an idempotency key is 1 to {KEY_LIMIT} printable characters",
            code="bad_idempotency_key",
        )
    return key
