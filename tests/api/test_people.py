"""What people's numbers and addresses are shown as, and to whom."""

import msgspec
import pytest
from starlette.responses import Response

from integrationd.api.event_views import frame
from integrationd.api.openapi_table import ROUTES
from integrationd.api.people import without_personal
from integrationd.api.roles import Role
from integrationd.journal import StoredEvent
from integrationd.personal import PersonalData

ON, OFF = PersonalData(is_masked=True), PersonalData()
CALL = {"id": "1", "detail": "no +254712344567", "payload": {"to": "+254712344567", "n": 1}}


def answer() -> Response:
    return Response(msgspec.json.encode(CALL), media_type="application/json")


@pytest.mark.parametrize("role", list(Role))
def test_lists_are_masked_for_everybody(role: Role) -> None:
    shown = without_personal(answer(), "all", role, ON)

    assert b"254712344567" not in bytes(shown.body)
    assert shown.headers["content-length"] == str(len(shown.body))


def test_payload_of_one_call_is_masked_for_readers_only() -> None:
    read = msgspec.json.decode(without_personal(answer(), "readers", Role.READ, ON).body)
    staff = msgspec.json.decode(without_personal(answer(), "readers", Role.STAFF, ON).body)

    assert read["payload"] == {"to": "+2547****4567", "n": 1}
    assert staff["payload"] == CALL["payload"]
    assert read["detail"] == staff["detail"] == "no +2547****4567"


def test_nothing_is_masked_unless_it_is_asked_for() -> None:
    for shown, personal in (("all", OFF), ("", ON)):
        response = without_personal(answer(), shown, Role.READ, personal)  # type: ignore[arg-type]  # of two literals
        assert msgspec.json.decode(response.body) == CALL


def test_streamed_events_are_masked() -> None:
    event = StoredEvent(1, 1, "payment.received", "t", None, None, '{"phone":"0712344567"}')

    assert b"0712344567" in frame(event, OFF)
    assert b'"07****4567"' in frame(event, ON)


def test_table_says_of_every_list_of_what_people_do_that_it_is_masked() -> None:
    told = {path for (_, path), one in ROUTES.items() if one.personal}

    assert {"/v1/calls", "/v1/attempts", "/v1/events", "/v1/webhooks"} <= told
    assert {f"/api/v1/integrations/{name}" for name in ("calls", "queue", "logs")} <= told
