"""What cannot be sent as an HTTP request is refused before the call is accepted."""

import contextlib
from typing import Any

import httpx2
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.http_provider import payload

from integrationd.sdk import (
    HttpRequest,
)
from integrationd.sdk.contracts.http import check_path


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"method": "get"}, "in upper case"),
        ({"method": "TRACE"}, "must be one of GET, HEAD, POST"),
        ({"path": ""}, "length >= 1"),
        ({"path": "x"}, "begin with one slash"),
        ({"path": "//evil.example"}, "begin with one slash"),
        ({"path": "/a?b=c"}, "give parameters in query"),
        ({"path": "/a#b"}, "give parameters in query"),
        ({"path": "/a/../b"}, "'.' or '..'"),
        ({"path": "/a/./b"}, "'.' or '..'"),
        ({"path": "/.."}, "'.' or '..'"),
        ({"path": "/%2e%2E/b"}, "'.' or '..'"),
        ({"path": "/a%2f..%2fb"}, "'.' or '..'"),
        ({"path": "/%252e%252e/b"}, "'.' or '..'"),
        ({"path": "/..;a=b/c"}, "'.' or '..'"),
        ({"path": "/a\\..\\b"}, "backslashes"),
        ({"path": "/a%5c..%5cb"}, "backslashes"),
        ({"path": "/a\r\nb"}, "control characters"),
        ({"path": "/a%00b"}, "control characters"),
        ({"path": "/a%0d%0ab"}, "control characters"),
        ({"path": "/a%zz"}, "two hex digits"),
        ({"path": "/a%"}, "two hex digits"),
        ({"headers": {"X-A": "b\r\nX-B: c"}}, "line breaks"),
        ({"headers": {"X-A": "b\x00"}}, "control characters"),
        ({"headers": {"X-A": "€"}}, "Latin-1"),
        ({"headers": {"X A": "b"}}, "no header name"),
        ({"headers": {"X-A\n": "b"}}, "no header name"),
        ({"headers": {"Host": "evil.example"}}, "must not set host"),
        (
            {"headers": {"content-length": "1", "Upgrade": "x"}},
            "must not set content-length, upgrade",
        ),
        ({"headers": {"X-A": "1", "x-a": "2"}}, "twice"),
        ({"method": "POST", "json": 1, "text": "a"}, "only one of json and text"),
        ({"method": "POST", "form": {}, "text": "a"}, "only one of form and text"),
        ({"method": "GET", "json": {}}, "has no body"),
        ({"method": "HEAD", "text": ""}, "has no body"),
        ({"timeout_s": 0}, "> 0"),
        ({"timeout_s": 301}, "<= 300"),
        ({"url": "https://evil.example"}, "unknown field"),
    ],
)
def test_payload_that_cannot_be_sent_is_refused_with_a_reason(
    members: dict[str, Any], reason: str
) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        payload(**members)

    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"NaN", b"1e400", b'"\\ud800"', b'"\xff"', b"[" * 5000 + b"]" * 5000]
)
def test_json_that_others_could_not_read_is_refused(raw: bytes) -> None:
    body = b'{"method":"POST","path":"/","json":%b}' % raw

    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError, RecursionError)):
        msgspec.json.decode(body, type=HttpRequest)


@given(st.text(max_size=30).map(lambda text: f"/{text}"))
def test_accepted_path_stays_below_the_base_url(path: str) -> None:
    with contextlib.suppress(ValueError, httpx2.InvalidURL):
        check_path(path)
        url = httpx2.URL(f"https://a.example/base{path}")

        assert (url.scheme, url.host, url.port) == ("https", "a.example", None)
        assert url.raw_path.startswith(b"/base/")
