"""Finding out what became of something: by its id, or by our reference in the lists of its kind.

Lists know everything at once, while the search lags behind: what a whole list does not hold is
proven not to exist.
"""

from collections.abc import Mapping
from typing import Any

from integrationd.sdk import Context, OutcomeError, Uncertain

from .objects import (
    INTENT_WITH,
    REFERENCE,
    SESSION_WITH,
    Object,
    Reading,
    id_of,
    read,
    reference_of,
)
from .wire import Failure, Json, Wire

SESSIONS = "/v1/checkout/sessions"
INTENTS = "/v1/payment_intents"
REFUNDS = "/v1/refunds"

PAGE = 100
MOST_PAGES = 20

_PLACES: Mapping[str, tuple[str, Mapping[str, Any] | None]] = {
    "cs_": (SESSIONS, SESSION_WITH),
    "pi_": (INTENTS, INTENT_WITH),
    "re_": (REFUNDS, None),
    "pyr_": (REFUNDS, None),
}
KINDS = tuple(_PLACES)
_BEST_FIRST = ("paid", "open", "refused")


class Lookup:
    """Asks about what was made.

    Args:
        wire: How Stripe is asked.
    """

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    async def by_id(self, ctx: Context, thing_id: str) -> Reading | Failure:
        """Read a session, an intent or a refund."""
        path, params = next(
            place for prefix, place in _PLACES.items() if thing_id.startswith(prefix)
        )
        told = await self._wire.get(ctx, f"{path}/{thing_id}", params)
        return reading_of(told)

    async def known(self, ctx: Context, thing_id: str) -> Reading:
        """Read it for a query.

        Raises:
            OutcomeError: Nothing could be learnt.
        """
        told = await self.by_id(ctx, thing_id)
        if isinstance(told, Reading):
            return told
        raise OutcomeError(told)

    async def listed(
        self, ctx: Context, path: str, reference: str, filters: Mapping[str, Any]
    ) -> str | None:
        """Return the id of what carries our reference in a list; None if it is not there.

        Of several, which there can be where a key was forgotten, a paid one goes before an open
        one, and that before one that was refused.

        Args:
            ctx: The attempt.
            path: The list.
            reference: Ours.
            filters: Narrow the list down.

        Raises:
            OutcomeError: The list could not be read to its end.
        """
        found: list[tuple[int, str]] = []
        params: dict[str, Any] = {"limit": PAGE, **filters}
        for _ in range(MOST_PAGES):
            page = await self._wire.known(ctx, path, params)
            things = _things(page)
            found += [_ranked(thing) for thing in things if reference_of(thing) == reference]
            if page.get("has_more") is not True or not things:
                return min(found)[1] if found else None
            params["starting_after"] = id_of(things[-1])
        raise OutcomeError(
            Uncertain(
                reason="too_many_to_search",
                detail=f"Stripe lists more than {PAGE * MOST_PAGES} of them in that time.",
            )
        )

    async def searched(self, ctx: Context, reference: str) -> str | None:
        """Return the id of the intent with our reference; None says little, as the search lags.

        Raises:
            OutcomeError: It could not be searched for.
        """
        query = {"query": f"metadata['{REFERENCE}']:'{reference}'", "limit": PAGE}
        page = await self._wire.known(ctx, f"{INTENTS}/search", query)
        found = [_ranked(thing) for thing in _things(page)]
        return min(found)[1] if found else None


def reading_of(told: Json | Failure) -> Reading | Failure:
    """Read what Stripe answered with, where it did."""
    if not isinstance(told, dict):
        return told
    reading = read(told)
    return reading if reading is not None and reading.id else unreadable(told)


def unreadable(told: Json) -> Uncertain:
    """Say that Stripe's answer is not what was asked for."""
    return Uncertain(
        reason="unreadable_reply", detail=f"Stripe answered with an unusable {told['object']}."
    )


def _things(page: Json) -> list[Object]:
    data = page.get("data")
    if isinstance(data, list) and all(isinstance(thing, dict) for thing in data):
        return data
    raise OutcomeError(Uncertain(reason="unreadable_reply", detail="Stripe's list is none."))


def _ranked(thing: Object) -> tuple[int, str]:
    reading = read(thing)
    rank = len(_BEST_FIRST) if reading is None else _BEST_FIRST.index(reading.state)
    return rank, id_of(thing) or ""
