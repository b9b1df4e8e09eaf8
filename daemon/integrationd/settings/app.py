"""``[app]``: where the app itself is told what became of its calls."""

import re
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, field_validator, model_validator

from integrationd.settings.table import Table
from integrationd.settings.units import Count, Timeout

EVENTS_PATTERN = re.compile(r"\*|[A-Za-z0-9_]{1,60}(?:\.[A-Za-z0-9_]{1,60})*(?:\.\*)?")
_URL_PATTERN = re.compile(r"https?://[!-~]{1,1900}|unix:/[^\0?#]{1,100}")

CONCERNS_THE_APP = (
    *("call.*", "payment.*", "sms.*", "email.*", "whatsapp.*", "push.*", "webhook.received"),
    "connection.needs_authorisation",
)


def _events(pattern: str) -> str:
    if not EVENTS_PATTERN.fullmatch(pattern):
        raise ValueError('must be the name of an event, "payment.*" for all that begin so, or "*"')
    return pattern


EventPattern: TypeAlias = Annotated[str, AfterValidator(_events)]


class AppSettings(Table):
    """``[app]``: signed POSTs of what concerns the app, in order for each call."""

    events_url: str | None = None
    events: tuple[EventPattern, ...] = Field(CONCERNS_THE_APP, min_length=1)
    secret: str | None = None
    scheme: Literal["standard", "simple"] = "standard"
    concurrency: Count = Field(4, ge=1, le=100)
    timeout: Timeout = 20.0

    @field_validator("events_url", mode="before")
    @classmethod
    def _switch_off(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("events_url")
    @classmethod
    def _is_a_door(cls, value: str | None) -> str | None:
        if value is not None and not _URL_PATTERN.fullmatch(value):
            raise ValueError(
                'must be "http://ADDRESS/PATH", "https://..." or "unix:/path/of/socket"'
            )
        return value

    @model_validator(mode="after")
    def _is_signed(self) -> "AppSettings":
        if self.events_url is not None and not self.secret:
            raise ValueError(
                "events_url needs a secret that signs: a reference such as env:APP_EVENTS_SECRET"
            )
        return self
