"""What is told of the link, and to whom."""

import pytest

from integrationd.api.ports import LinkStatus
from integrationd.api.status_views import LinkView

DOWN = LinkStatus(is_up=False, since_ms=1_800_000_000_000, why="Nobody: api.other.example.")


def test_link_that_was_never_down_is_up_since_ever() -> None:
    view = LinkView.of(LinkStatus(is_up=True, since_ms=None, why=""), is_told_why=True)

    assert (view.state, view.since, view.why) == ("up", None, "")


@pytest.mark.parametrize(("is_told_why", "why"), [(True, DOWN.why), (False, "")])
def test_hosts_that_were_tried_are_not_for_one_tenant(is_told_why: bool, why: str) -> None:
    view = LinkView.of(DOWN, is_told_why=is_told_why)

    assert (view.state, view.since) == ("down", "2027-01-15T08:00:00.000Z")
    assert view.why == why
