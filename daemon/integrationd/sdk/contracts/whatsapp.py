"""What every WhatsApp provider promises: one text, template or file to one phone."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from integrationd.sdk.contract import Contract, Request, Result
from integrationd.sdk.contracts.sms import PhoneNumber

_WITHOUT_CAPTION = frozenset({"audio", "sticker"})


class WhatsappText(Request, frozen=True, kw_only=True):
    """A free text; the platform takes it within a day of the reader's last message only.

    Attributes:
        body: The text.
        preview_url: Show a preview of the first link in it.
    """

    body: Annotated[str, Meta(max_length=4096, pattern=r"\S")]
    preview_url: bool = False


class WhatsappTemplateComponent(Request, frozen=True, kw_only=True):
    """The values for one part of a template.

    Attributes:
        type: Which part.
        sub_type: The kind of a button.
        index: The position of a button, from 0.
        parameters: The values in order, in the platform's own form.
    """

    type: Literal["header", "body", "button"]
    sub_type: Annotated[str, Meta(pattern=r"^[a-z_]{1,40}(?!\n)$")] | None = None
    index: Annotated[int, Meta(ge=0, le=9)] | None = None
    parameters: Annotated[tuple[dict[str, Any], ...], Meta(max_length=100)] = ()

    def __post_init__(self) -> None:
        """Check that a button, and nothing else, says which.

        Raises:
            ValueError: ``sub_type`` or ``index`` is missing from a button or stands elsewhere.
        """
        named = (self.sub_type is not None, self.index is not None)
        if named != (self.type == "button",) * 2:
            raise ValueError("sub_type and index belong to components of type button, and both")


class WhatsappTemplate(Request, frozen=True, kw_only=True):
    """A text that the platform has approved.

    Attributes:
        name: Its name.
        language: Its language, for example ``en`` or ``en_US``.
        components: The values for its placeholders.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,512}(?!\n)$")]
    language: Annotated[str, Meta(pattern=r"^[a-z]{2,3}(_[A-Z]{2,4})?(?!\n)$")]
    components: Annotated[tuple[WhatsappTemplateComponent, ...], Meta(max_length=20)] = ()


class WhatsappMedia(Request, frozen=True, kw_only=True):
    """A file, by exactly one of its address and the id of an earlier upload.

    Attributes:
        type: What kind of file.
        link: Where the platform fetches it.
        id: The platform's id of an earlier upload.
        caption: A text below it; not for audio and stickers.
        filename: The name that the reader sees; for documents.
    """

    type: Literal["image", "video", "document", "audio", "sticker"]
    link: Annotated[str, Meta(max_length=2048, pattern=r"^https?://[!-~]+(?!\n)$")] | None = None
    id: Annotated[str, Meta(max_length=256, pattern=r"^[!-~]+(?!\n)$")] | None = None
    caption: Annotated[str, Meta(min_length=1, max_length=1024)] | None = None
    filename: Annotated[str, Meta(min_length=1, max_length=240)] | None = None

    def __post_init__(self) -> None:
        """Check what concerns several members.

        Raises:
            ValueError: Not exactly one of link and id, or a caption or name where none is shown.
        """
        if (self.link is None) == (self.id is None):
            raise ValueError("media needs exactly one of link and id")
        if self.caption is not None and self.type in _WITHOUT_CAPTION:
            raise ValueError(f"media of type {self.type} takes no caption")
        if self.filename is not None and self.type != "document":
            raise ValueError("filename belongs to media of type document")


class WhatsappSend(Request, frozen=True, kw_only=True):
    """One message to one phone: exactly one of a text, a template and a file.

    Attributes:
        to: The recipient.
        text: A free text.
        template: An approved text.
        media: A file.
        reply_to: The platform's id of the message that this one answers.
    """

    to: PhoneNumber
    text: WhatsappText | None = None
    template: WhatsappTemplate | None = None
    media: WhatsappMedia | None = None
    reply_to: Annotated[str, Meta(max_length=256, pattern=r"^[!-~]+(?!\n)$")] | None = None

    def __post_init__(self) -> None:
        """Check that there is one content.

        Raises:
            ValueError: Not exactly one of text, template and media is given.
        """
        if [self.text, self.template, self.media].count(None) != 2:
            raise ValueError("give exactly one of text, template and media")


class WhatsappSendResult(Result, frozen=True, kw_only=True):
    """What is known once the platform has taken a message over.

    Attributes:
        message_id: The platform's id, by which receipts refer to it.
        wa_id: The reader's id on the platform, which can differ from the number.
    """

    message_id: str | None = None
    wa_id: str | None = None


CONTRACTS: tuple[Contract, ...] = (
    Contract(
        operation="whatsapp.send",
        request=WhatsappSend,
        result=WhatsappSendResult,
        on_uncertain="repeat",
        max_repeats=1,
        summary="Send one WhatsApp message.",
    ),
)
