"""``[link]``: how it is found out whether the machine's own link to the world is up."""

import re

from pydantic import field_validator

from integrationd.settings.table import Table

_PROBE_PATTERN = re.compile(r"https?://[^/?#@\s]{1,300}(?:/[!-~]{0,1500})?")


class LinkSettings(Table):
    """``[link]``: what is done when nothing beyond the machine's own networks can be reached.

    Attributes:
        watch: Whether calls are held while the link is down.
        probe: What is asked whether it is up, in place of the connections' own hosts. An
            ``https://`` address needs no more than to complete its handshake; an ``http://``
            address has to answer 204, so that a captive portal is not taken for the world.
    """

    watch: bool = True
    probe: str | None = None

    @field_validator("probe", mode="before")
    @classmethod
    def _switch_off(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("probe")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is not None and not _PROBE_PATTERN.fullmatch(value):
            raise ValueError(
                'must be "https://HOST", or "http://HOST/PATH" of a page that answers 204'
            )
        return value
