"""The users' words: every state, outcome and priority has one, and each leads back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.api.schemas import PRIORITIES
from integrationd.api.users import words
from integrationd.api.webhook_routes import STATES
from integrationd.call import CallState
from integrationd.delivery import answers
from integrationd.errors import UnprocessableError

OUTCOMES = {*answers._NAMES.values(), "partial"}


# The queue


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("pending", "pending"),
        ("processing", "processing"),
        ("waiting", "processing"),
        ("unknown", "processing"),
        ("completed", "completed"),
        ("failed", "failed"),
        ("expired", "failed"),
        ("cancelled", "cancelled"),
    ],
)
def test_state_reads_as_design_9_says(state: str, status: str) -> None:
    assert words.queue_status(state) == status


def test_statuses_are_those_of_document_004() -> None:
    """``integration_queue.status``, and ``integration_logs`` status and direction."""
    assert list(words.QUEUE_STATUSES) == [
        "pending",
        "processing",
        "completed",
        "failed",
        "cancelled",
    ]
    assert list(words.LOG_STATUSES) == ["pending", "success", "failed", "timeout"]
    assert list(words.DIRECTIONS) == ["outbound", "inbound"]


@pytest.mark.parametrize("state", list(CallState))
def test_status_leads_back_to_every_state_that_reads_so(state: CallState) -> None:
    status = words.queue_status(state)

    assert state in words.states_of(status)
    assert {words.queue_status(one) for one in words.states_of(status)} == {status}


@pytest.mark.parametrize("status", ["waiting", "unknown", "expired", "", "PENDING", "x" * 99])
def test_status_that_the_documents_do_not_have_is_refused(status: str) -> None:
    with pytest.raises(UnprocessableError, match="pending, processing, completed, failed, canc"):
        words.states_of(status)


# Priorities


@pytest.mark.parametrize("name", PRIORITIES)
def test_priority_leads_back_to_its_name(name: str) -> None:
    assert words.priority_name(str(words.priority_number(name))) == name


@given(number=st.integers(-(10**9), 10**9))
def test_priority_above_0_is_high_and_below_it_low(number: int) -> None:
    expected = "high" if number > 0 else "low" if number < 0 else "normal"

    assert words.priority_name(str(number)) == expected


@given(text=st.text().filter(lambda text: not text.removeprefix("-").isascii() or not text))
def test_priority_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UnprocessableError, match="whole number"):
        words.priority_name(text)


@pytest.mark.parametrize("text", ["high", "1.5", "--1", "+1", "1e3", "9" * 400, " 1"])
def test_priority_that_looks_like_a_number_is_refused(text: str) -> None:
    with pytest.raises(UnprocessableError, match="whole number"):
        words.priority_name(text)


# The log


@pytest.mark.parametrize(
    ("outcome", "reason", "status"),
    [
        ("delivered", None, "success"),
        ("accepted", None, "success"),
        ("done", None, "success"),
        ("pending", None, "pending"),
        ("partial", None, "failed"),
        ("rejected", "refused", "failed"),
        ("refused", "declined", "failed"),
        ("throttled", None, "failed"),
        ("retryable", "connection_refused", "failed"),
        ("retryable", "connect_timeout", "timeout"),
        ("uncertain", "timeout", "timeout"),
        ("uncertain", "http_504", "timeout"),
        ("uncertain", "connection_lost", "failed"),
        ("never_happened", None, "failed"),
        ("cannot_tell", "timeout", "timeout"),
        ("cannot_tell", "no_answer", "failed"),
    ],
)
def test_outcome_has_a_word(outcome: str, reason: str | None, status: str) -> None:
    assert words.log_status(outcome, reason) == status


@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
@pytest.mark.parametrize("reason", [None, "timeout", "busy"])
def test_every_outcome_leads_back(outcome: str, reason: str | None) -> None:
    found = words.exchanges_of(words.log_status(outcome, reason))

    assert outcome in found.outcomes
    assert found.timed_out in (None, reason in words.TIMEOUTS)


@pytest.mark.parametrize("state", sorted(STATES))
def test_every_state_of_a_webhook_leads_back(state: str) -> None:
    assert state in words.exchanges_of(words.webhook_status(state)).states


@pytest.mark.parametrize("reason", [None, "timeout", "busy"])
@pytest.mark.parametrize("outcome", sorted(OUTCOMES))
def test_no_exchange_has_two_words(outcome: str, reason: str | None) -> None:
    standing = [
        status
        for status in words.LOG_STATUSES
        for found in [words.exchanges_of(status)]
        if outcome in found.outcomes and found.timed_out in (None, reason in words.TIMEOUTS)
    ]

    assert standing == [words.log_status(outcome, reason)]


@pytest.mark.parametrize("status", ["ok", "", "SUCCESS"])
def test_status_of_the_log_that_is_none_is_refused(status: str) -> None:
    with pytest.raises(UnprocessableError, match="pending, success, failed, timeout"):
        words.exchanges_of(status)


def test_directions_are_told_apart() -> None:
    assert words.is_inbound("inbound")
    assert not words.is_inbound("outbound")
    with pytest.raises(UnprocessableError, match="outbound, inbound"):
        words.is_inbound("outgoing")
