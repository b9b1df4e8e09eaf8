"""Exceptions and statuses become the outcome that says whether the request could have arrived."""

import datetime as dt
import email.utils
import socket
import ssl
import unicodedata

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrationd.sdk.classify import (
    excerpt,
    finding_of_error,
    of_error,
    of_status,
    retry_after_s,
)
from integrationd.sdk.framing import BrokenReplyError, ReplyTooLargeError
from integrationd.sdk.outcome import (
    CannotTell,
    Outcome,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.target import TargetRefusedError

NOW_MS = 1_768_478_400_000  # 2026-01-15T12:00:00Z


def caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


def answer(status: int, body: bytes = b"", **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, headers=named, content=body)


def word(outcome: Outcome) -> str:
    assert isinstance(outcome, Rejected | Retryable | Uncertain)
    assert outcome.detail
    return outcome.reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx2.ConnectTimeout("late"), "connect_timeout"),
        (httpx2.PoolTimeout("busy"), "no_free_connection"),
        (httpx2.ProxyError("proxy"), "proxy_failure"),
        (httpx2.ConnectError("no"), "connect_failure"),
        (caused(httpx2.ConnectError("no"), ConnectionRefusedError()), "connection_refused"),
        (caused(httpx2.ConnectError("no"), socket.gaierror(-2, "unknown")), "dns_failure"),
        (caused(httpx2.ConnectError("no"), ssl.SSLError("bad")), "tls_failure"),
        (
            caused(httpx2.ConnectError("no"), caused(OSError("no"), ssl.SSLError("bad"))),
            "tls_failure",
        ),
        (caused(httpx2.ConnectError("no"), OSError(101, "unreachable")), "connect_failure"),
    ],
)
def test_error_before_the_first_byte_is_retryable_and_unsent(error: Exception, reason: str) -> None:
    outcome = of_error(error)

    assert isinstance(outcome, Retryable)
    assert not outcome.sent
    assert word(outcome) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (httpx2.ReadTimeout("slow"), "timeout"),
        (httpx2.WriteTimeout("slow"), "timeout"),
        (TimeoutError(), "timeout"),
        (httpx2.ReadError("reset"), "connection_lost"),
        (httpx2.WriteError("reset"), "connection_lost"),
        (ConnectionResetError("reset"), "connection_lost"),
        (httpx2.RemoteProtocolError("odd"), "garbled_reply"),
        (httpx2.DecodingError("gzip"), "unreadable_reply"),
        (BrokenReplyError("closed", reason="connection_lost"), "connection_lost"),
        (BrokenReplyError("cut", reason="cut_reply"), "cut_reply"),
        (BrokenReplyError("cut", reason="cut_reply", status=200), "cut_reply"),
        (BrokenReplyError("odd", reason="garbled_reply"), "garbled_reply"),
        (ReplyTooLargeError("large", status=201), "reply_too_large"),
        (KeyError("a bug"), "unexpected_error"),
        (httpx2.TooManyRedirects("loop"), "unexpected_error"),
    ],
)
def test_error_after_the_first_byte_is_uncertain(error: Exception, reason: str) -> None:
    outcome = of_error(error)

    assert isinstance(outcome, Uncertain)
    assert word(outcome) == reason


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TargetRefusedError("10.0.0.1 is private"), "target_refused"),
        (httpx2.InvalidURL("no"), "invalid_request"),
        (httpx2.UnsupportedProtocol("ftp"), "invalid_request"),
        (httpx2.LocalProtocolError("line break"), "invalid_request"),
        (BrokenReplyError("cut", reason="cut_reply", status=404), "http_404"),
        (ReplyTooLargeError("large", status=400), "http_400"),
    ],
)
def test_error_that_repeating_cannot_mend_is_rejected(error: Exception, reason: str) -> None:
    outcome = of_error(error)

    assert isinstance(outcome, Rejected)
    assert word(outcome) == reason


def test_broken_reply_with_a_server_error_stays_uncertain() -> None:
    outcome = of_error(BrokenReplyError("cut", reason="cut_reply", status=502))

    assert isinstance(outcome, Uncertain)
    assert outcome.reason == "http_502"


def test_status_error_is_classified_by_its_response() -> None:
    response = answer(429, Retry_After="Thu, 15 Jan 2026 12:00:30 GMT")
    response.request = httpx2.Request("GET", "https://a.example/")
    error = httpx2.HTTPStatusError("429", request=response.request, response=response)

    assert of_error(error, NOW_MS) == of_status(response, NOW_MS)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_success_is_left_to_the_plugin(status: int) -> None:
    assert of_status(answer(status), NOW_MS) is None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Rejected),
        (401, Rejected),
        (403, Rejected),
        (404, Rejected),
        (409, Rejected),
        (422, Rejected),
        (499, Rejected),
        (408, Retryable),
        (503, Retryable),
        (500, Uncertain),
        (501, Uncertain),
        (502, Uncertain),
        (504, Uncertain),
        (599, Uncertain),
        (0, Uncertain),
        (999, Uncertain),
    ],
)
def test_status_decides(status: int, kind: type[Outcome]) -> None:
    outcome = of_status(answer(status, b"why it failed"), NOW_MS)

    assert isinstance(outcome, kind)
    assert word(outcome) == f"http_{status}"
    assert "why it failed" in getattr(outcome, "detail", "")


@pytest.mark.parametrize("status", [425, 429])
def test_throttling_keeps_the_asked_wait(status: int) -> None:
    outcome = of_status(answer(status, Retry_After="7"), NOW_MS)

    assert isinstance(outcome, Throttled)
    assert outcome.wait_s == 7.0


@pytest.mark.parametrize("status", [408, 503])
def test_refusal_for_now_reached_the_provider_and_keeps_the_asked_wait(status: int) -> None:
    outcome = of_status(answer(status, Retry_After="9"), NOW_MS)

    assert isinstance(outcome, Retryable)
    assert outcome.sent
    assert outcome.wait_s == 9.0


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://new.example/x?token=s3cret", "new.example"),
        ("/other", "another path of the same host"),
        ("", "nowhere"),
        ("http://a.example:port/", "an address that is none"),
    ],
)
def test_redirect_is_rejected_and_names_the_host_only(location: str, shown: str) -> None:
    outcome = of_status(answer(302, Location=location), NOW_MS)

    assert isinstance(outcome, Rejected)
    assert outcome.reason == "http_302"
    assert shown in outcome.detail
    assert "s3cret" not in outcome.detail


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        ("0", 0.0),
        ("120", 120.0),
        (" 5 ", 5.0),
        ("1.5", 1.5),
        ("3601", 3600.0),
        ("1000000000000", 3600.0),
        ("Thu, 15 Jan 2026 12:01:00 GMT", 60.0),
        ("Thursday, 15-Jan-26 12:01:00 GMT", 60.0),
        ("Thu Jan 15 12:01:00 2026", 60.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 15 Jan 2027 12:00:00 GMT", 3600.0),
        ("-1", None),
        ("", None),
        ("soon", None),
        ("١٢", None),
        ("1e3", None),
        ("nan", None),
        ("Thu, 99 Jan 2026 12:01:00 GMT", None),
        ("Thu, 15 Jan 99999 12:01:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_all_its_forms(value: str, wait_s: float | None) -> None:
    assert retry_after_s(value, NOW_MS) == wait_s


@given(st.text(max_size=60))
def test_retry_after_never_fails_and_stays_in_its_range(value: str) -> None:
    wait_s = retry_after_s(value, NOW_MS)

    assert wait_s is None or 0 <= wait_s <= 3600


@given(st.integers(min_value=0, max_value=7200))
def test_retry_after_date_and_seconds_mean_the_same(seconds: int) -> None:
    at = dt.datetime.fromtimestamp(NOW_MS / 1000 + seconds, dt.UTC)

    assert retry_after_s(email.utils.format_datetime(at, usegmt=True), NOW_MS) == retry_after_s(
        str(seconds), NOW_MS
    )


def test_retry_after_date_needs_the_time() -> None:
    assert retry_after_s("Thu, 15 Jan 2026 12:01:00 GMT", None) is None


@given(st.binary(max_size=2000))
def test_excerpt_is_one_short_printable_line(body: bytes) -> None:
    shown = excerpt(body)

    assert len(shown) <= 200
    assert shown == shown.strip()
    assert not any(unicodedata.category(character) == "Cc" for character in shown)


def test_excerpt_of_a_long_body_ends_in_an_ellipsis() -> None:
    shown = excerpt("é".encode() * 5000)

    assert len(shown) == 200
    assert shown.endswith("é…")


def test_excerpt_drops_what_would_steer_a_terminal() -> None:
    assert excerpt(b"\x1b[31mred\x1b[0m\r\n\xe2\x80\xaeevil") == "[31mred [0m evil"


@pytest.mark.parametrize(
    "error",
    [
        httpx2.ReadTimeout("slow"),
        httpx2.ConnectError("no"),
        TargetRefusedError("private"),
        KeyError("bug"),
    ],
)
def test_failed_query_learns_nothing(error: Exception) -> None:
    finding = finding_of_error(error)

    assert isinstance(finding, CannotTell)
    assert finding.reason == word(of_error(error))
    assert finding.detail


def test_throttled_query_learns_nothing() -> None:
    assert (
        finding_of_error(BrokenReplyError("cut", reason="cut_reply", status=429)).reason
        == "throttled"
    )
