"""What a plugin says that a webhook means, made sure that it can be kept."""

from collections.abc import Sequence

import msgspec

from integrationd.registry.containment import contained
from integrationd.sdk import Provider
from integrationd.sdk.webhook import Notice, UnreadableError, WebhookRequest


def notices_of(provider: Provider, request: WebhookRequest) -> Sequence[Notice]:
    """Have a plugin read a webhook.

    Raises:
        UnreadableError: It cannot be understood, or tells what no JSON can hold.
        Exception: Whatever else the plugin raised.
    """
    with contained():
        notices = tuple(provider.read_webhook(request))
    for notice in notices:
        if not isinstance(notice, Notice):
            raise TypeError(f"read_webhook told {type(notice).__name__}, not Notice")
        try:
            msgspec.json.encode(notice)
        except (UnicodeEncodeError, RecursionError) as error:
            raise UnreadableError(f"{notice.type[:80]!a} cannot be kept: {error}") from None
    return notices
