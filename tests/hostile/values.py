"""Well-formed requests whose values aim at what comes later: headers, addresses, SQL, calendars."""

import json
from typing import Any
from urllib.parse import quote

from tests.hostile.catalogue import Attack, Families
from tests.hostile.wire import request

_SQL = ("' OR 1=1 --", '"; DROP TABLE call; --', "%", "_", "\\", "x' UNION SELECT key FROM api --")


def _call(name: str, operation: str, payload: Any, **options: Any) -> Attack:
    body = json.dumps({"operation": operation, "payload": payload, **options}).encode()
    return Attack(name, request(b"POST", b"/v1/calls", body))


def _http(name: str, **members: Any) -> Attack:
    return _call(name, "http.request", {"method": "POST", "path": "/", **members})


def _moment(member: str, value: Any) -> Attack:
    return _call(f"{member} {value!r:.30}", "rehearsal.hold", {}, **{member: value})


def _asked(
    query: str, *, statuses: tuple[int, ...] = (400, 422), path: str = "/v1/calls"
) -> Attack:
    target = f"{path}?{query}".encode()
    return Attack(f"{path} {query:.50}", request(b"GET", target, None), statuses=statuses)


VALUE_ATTACKS: Families = {
    "line breaks": [
        _http("line break in a header", headers={"x-a": "1\r\nhost: evil.example"}),
        _http("line feed in a header", headers={"x-a": "1\nx: y"}),
        _http("line break in a header name", headers={"x-a\r\nx": "1"}),
        _http("colon in a header name", headers={"x-a:": "1"}),
        _http("NUL in a header", headers={"x-a": "\0"}),
        _http("escape in a header", headers={"x-a": "\x1b[2J"}),
        _http("header outside Latin-1", headers={"x-a": "\u202e"}),
        _http("host as a header", headers={"Host": "evil.example"}),
        _http("length as a header", headers={"content-length": "0"}),
        _http("line break in the path", path="/a\r\nhost: evil.example"),
        _http("encoded line break in the path", path="/a%0d%0ahost:%20evil"),
        _http("twice encoded line break", path="/a%250d%250ahost"),
        _http("line separator in the path", path="/a\u2028b"),
        _http("path that leaves", path="/../admin"),
        _http("encoded path that leaves", path="/%2e%2e/admin"),
        _http("path of another host", path="//evil.example/"),
        _http("address for a path", path="http://evil.example/"),
        _http("query in the path", path="/a?b=c"),
        _http("method with a line break", method="POST\r\nx: y"),
        _call("line break in a number", "sms.send", {"to": "+254711000111\n", "message": "a"}),
        _call("escape in a number", "sms.send", {"to": "+2547\x1b[2J", "message": "a"}),
        _call(
            "line break in a sender",
            "sms.send",
            {"to": "+254711000111", "message": "a", "sender": "A\n"},
        ),
        _call("line break in an operation", "sms.send\r\nx", {}),
        _call("escape in a connection", "rehearsal.hold", {}, connection="\x1b]0;x\x07"),
        _call("bidi mark in a connection", "rehearsal.hold", {}, connection="\u202estage"),
        _call("escape in a reference", "rehearsal.hold", {}, reference={"type": "\x1b", "id": "1"}),
    ],
    "searches": [
        *(_asked(f"state={quote(text)}") for text in _SQL),
        *(_asked(f"operation={quote(text)}", statuses=(200,)) for text in _SQL),
        *(_asked(f"reference_id={quote(text)}", statuses=(200,)) for text in _SQL),
        *(_asked(f"{name}={quote(_SQL[0])}") for name in ("order", "order_by", "sort", "fields")),
        _asked("limit=0"),
        _asked("limit=501"),
        _asked("limit=-1"),
        _asked("limit=1e3"),
        _asked("limit=" + "9" * 5000),
        _asked("limit=%D9%A3"),
        _asked("limit=5&limit=6"),
        _asked("cursor=-1"),
        _asked("cursor=%00"),
        _asked("cursor=forged"),
        _asked("cursor=eyJhIjoxfQ=="),
        _asked("cursor=" + "9" * 7000),
        _asked("cursor=9223372036854775808", statuses=(200,)),
        _asked("cursor=0", path="/v1/attempts", statuses=(200,)),
        _asked("cursor=x", path="/v1/attempts"),
        _asked("call_id=%25", path="/v1/attempts", statuses=(200,)),
        _asked("state=pending", path="/v1/ledger"),
    ],
    "times": [
        _moment("expires_in", -1),
        _moment("expires_in", 0),
        _moment("expires_in", 1e18),
        _moment("expires_in", "60"),
        _moment("expires_in", True),
        _moment("expires_in", 10**40),
        _moment("not_before", 10**18),
        _moment("not_before", "10000-01-01T00:00:00Z"),
        _moment("not_before", "9999-12-31T23:59:59Z"),
        _moment("not_before", "0001-01-01T00:00:00Z"),
        _moment("not_before", "1969-12-31T23:59:59Z"),
        _moment("not_before", "2030-02-30T00:00:00Z"),
        _moment("not_before", "2027-01-01T25:00:00Z"),
        _moment("not_before", "2027-01-01T00:00:00+99:00"),
        _moment("not_before", "2027-01-01T00:00:00 Africa/Nairobi"),
        _moment("not_before", "2027-01-01"),
        _moment("not_before", "2027-01-01T00:00:00"),
        _moment("not_before", "tomorrow"),
        _moment("not_before", ""),
        _moment("expires_at", "1970-01-01T00:00:00Z"),
        _moment("expires_at", "0001-01-01T00:00:00+14:00"),
        _moment("expires_at", "9999-12-31T23:59:59-14:00"),
    ],
}
