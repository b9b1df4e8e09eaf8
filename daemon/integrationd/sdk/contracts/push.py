"""What every push provider promises: one notification to a device, a topic or a condition."""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from integrationd.sdk.contract import Contract, Request, Result

MAX_CONTENT_BYTES = 4096

Token: TypeAlias = Annotated[
    str,
    Meta(
        max_length=4096,
        pattern=r"^[!-~]+(?!\n)$",
        description="A device's token, as its platform gave it; shown shortened everywhere.",
    ),
]
Topic: TypeAlias = Annotated[
    str,
    Meta(
        max_length=900,
        pattern=r"^[A-Za-z0-9_.~%-]+(?!\n)$",
        description="A topic's name, without /topics/.",
    ),
]
DataKey: TypeAlias = Annotated[str, Meta(min_length=1, max_length=256)]


class PushSend(Request, frozen=True, kw_only=True):
    """One notification to exactly one of a token, a topic and a condition.

    Attributes:
        token: The device.
        topic: All devices that follow the topic.
        condition: All devices that a condition over topics selects.
        title: The notification's title.
        body: The notification's text.
        data: Values for the app itself.
        image: Address of a picture to show.
        ttl_s: Seconds for which the provider keeps it for a device that is away.
        priority: ``high`` wakes the device.
        collapse_key: A newer notification of the same key replaces an older one.
    """

    token: Token | None = None
    topic: Topic | None = None
    condition: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    title: Annotated[str, Meta(min_length=1)] | None = None
    body: Annotated[str, Meta(min_length=1)] | None = None
    data: dict[DataKey, str] = msgspec.field(default_factory=dict)
    image: Annotated[str, Meta(max_length=2048, pattern=r"^https?://[!-~]+(?!\n)$")] | None = None
    ttl_s: Annotated[int, Meta(ge=0, le=2_419_200)] | None = None
    priority: Literal["high", "normal"] = "normal"
    collapse_key: Annotated[str, Meta(max_length=64, pattern=r"^[!-~]+(?!\n)$")] | None = None

    def __post_init__(self) -> None:
        """Check what concerns several members.

        Raises:
            ValueError: There is not exactly one target, or nothing to show, or too much.
        """
        if [self.token, self.topic, self.condition].count(None) != 2:
            raise ValueError("give exactly one of token, topic and condition")
        if self.image is not None and self.title is None and self.body is None:
            raise ValueError("an image needs a title or a body beside it")
        if self.title is None and self.body is None and not self.data:
            raise ValueError("give a title, a body or data")
        size = _content_bytes(self)
        if size > MAX_CONTENT_BYTES:
            raise ValueError(
                f"title, body and data are {size} bytes together; "
                f"the platforms take {MAX_CONTENT_BYTES} at most"
            )


class PushSendResult(Result, frozen=True, kw_only=True):
    """What is known once the platform has taken a notification over.

    Attributes:
        message_id: The platform's id.
    """

    message_id: str | None = None


def _content_bytes(request: PushSend) -> int:
    texts = (request.title or "", request.body or "", *request.data, *request.data.values())
    return sum(len(text.encode()) for text in texts)


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        operation="push.send",
        request=PushSend,
        result=PushSendResult,
        on_uncertain="repeat",
        max_repeats=1,
        summary="Send one push notification.",
    ),
)
