"""Requests whose ends, lines or targets can be read in two ways, or in none."""

from tests.hostile.catalogue import Attack, Families
from tests.hostile.wire import HOST, KEY, request

MALFORMED = frozenset({"malformed_request"})
_CALL = b'{"operation":"rehearsal.hold"}'
_HEAD = b"POST /v1/calls HTTP/1.1\r\nhost: " + HOST + b"\r\nauthorization: Bearer " + KEY + b"\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n\r\n"
_NOTHING = (400, 404, 405, 422)


def _framed(name: str, lines: bytes, body: bytes = _CALL) -> Attack:
    return Attack(name, _HEAD + lines + b"\r\n\r\n" + body, statuses=(400,), codes=MALFORMED)


def _chunk(name: str, sent: bytes, *, statuses: tuple[int, ...] = (400,)) -> Attack:
    return Attack(name, _CHUNKED + sent, statuses=statuses)


def _raw(name: str, sent: bytes, *, statuses: tuple[int, ...] = (400,)) -> Attack:
    return Attack(name, sent, statuses=statuses)


def _aimed(target: bytes, *, statuses: tuple[int, ...] = _NOTHING) -> Attack:
    return Attack(repr(target[:40]), request(b"POST", target, b""), statuses=statuses)


def _method(method: bytes, *, statuses: tuple[int, ...] = (405,)) -> Attack:
    return Attack(method.decode(), request(method, b"/v1/calls", None), statuses=statuses)


FRAMING_ATTACKS: Families = {
    "lengths": [
        _framed("length and chunks", b"content-length: 30\r\ntransfer-encoding: chunked"),
        _framed("chunks and length", b"transfer-encoding: chunked\r\ncontent-length: 30"),
        _framed("two lengths", b"content-length: 30\r\ncontent-length: 31"),
        _framed("the same length twice", b"content-length: 30\r\ncontent-length: 30"),
        _framed("a list of lengths", b"content-length: 30, 30"),
        _framed("negative length", b"content-length: -1"),
        _framed("length with a plus", b"content-length: +5"),
        _framed("hexadecimal length", b"content-length: 0x1e"),
        _framed("length with an underscore", b"content-length: 3_0"),
        _framed("no length", b"content-length:"),
        _framed("length of twenty digits", b"content-length: " + b"9" * 20),
        _framed("length in other digits", "content-length: \uff13\uff10".encode()),
        Attack("gzip, chunked", _HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n", (400,)),
        Attack("chunked twice", _HEAD + b"transfer-encoding: chunked, chunked\r\n\r\n", (400,)),
        Attack("xchunked", _HEAD + b"transfer-encoding: xchunked\r\n\r\n", (400,)),
        Attack(
            "chunked and identity",
            _HEAD + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n",
            (400,),
        ),
    ],
    "chunks": [
        _chunk("2^64 - 1, never sent", b"ffffffffffffffff\r\n{", statuses=(408,)),
        _chunk("over 2^64", b"fffffffffffffffff\r\n{"),
        _chunk("negative", b"-1\r\n{"),
        _chunk("no digits", b"\r\n{"),
        _chunk("hexadecimal sign", b"0x1\r\n{"),
        _chunk("longer than said", b"1\r\n{}\r\n0\r\n\r\n"),
        _chunk("bare line feed", b"1\n{\n0\n\n"),
        _chunk("endless extension", b"1;" + b"x" * 80_000, statuses=(431,)),
        _chunk("endless trailers", b"0\r\n" + b"a: b\r\n" * 20_000, statuses=(400, 431)),
        _chunk("line feed in an extension", b"1;a\nb\r\n{\r\n0\r\n\r\n"),
    ],
    "lines": [
        _raw("bare line feeds", b"GET /healthz HTTP/1.1\nhost: " + HOST + b"\n\n"),
        _raw("bare carriage returns", b"GET /healthz HTTP/1.1\rhost: " + HOST + b"\r\r\r\n\r\n"),
        _raw("space before the colon", b"GET /healthz HTTP/1.1\r\nhost : x\r\n\r\n"),
        _raw("folded header", b"GET /healthz HTTP/1.1\r\nhost: x\r\n y\r\n\r\n"),
        _raw("header without a colon", b"GET /healthz HTTP/1.1\r\nhost\r\n\r\n"),
        _raw("empty header name", b"GET /healthz HTTP/1.1\r\n: x\r\n\r\n"),
        _raw("NUL in a header", b"GET /healthz HTTP/1.1\r\nhost: \0\r\n\r\n"),
        _raw("NUL in a name", b"GET /healthz HTTP/1.1\r\nho\0st: x\r\n\r\n"),
        _raw("HTTP/0.9", b"GET /healthz\r\n\r\n"),
        _raw("HTTP/1.2", b"GET /healthz HTTP/1.2\r\nhost: x\r\n\r\n"),
        _raw("HTTP/2.0", b"GET /healthz HTTP/2.0\r\nhost: x\r\n\r\n"),
        _raw("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        _raw("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        _raw("a reply", b"HTTP/1.1 200 OK\r\n\r\n"),
        _raw("random bytes", bytes(range(256))),
        _raw(
            "websocket",
            request(b"GET", b"/v1/calls", None, b"connection: upgrade", b"upgrade: websocket"),
        ),
        _raw("h2c", request(b"GET", b"/v1/calls", None, b"connection: upgrade", b"upgrade: h2c")),
        _raw("500 headers", request(b"GET", b"/v1/calls", None, *[b"a: b"] * 500), statuses=(431,)),
        _raw(
            "a header of 1 MiB",
            request(b"GET", b"/v1/calls", None, b"a: " + b"x" * 1024 * 1024),
            statuses=(431,),
        ),
    ],
    "targets": [
        _aimed(b"http://evil.example/v1/calls", statuses=(400, 404, 422)),
        _aimed(b"http://evil.example", statuses=(400,)),
        _aimed(b"//evil.example/v1/calls"),
        _aimed(b"/v1/../v1/calls"),
        _aimed(b"/v1/calls/../../etc/passwd"),
        _aimed(b"/v1/calls/%2e%2e%2f%2e%2e%2fapi.key"),
        _aimed(b"/v1/calls/%00/retry"),
        _aimed(b"/v1/calls/%0d%0aset-cookie:%20a=b/retry"),
        _aimed(b"/v1/calls/%ff%fe/retry"),
        _aimed(b"/v1/calls/%/retry"),
        _aimed(b"/v1/calls/%zz/retry"),
        _aimed(b"/v1/calls;a=b"),
        _aimed(b"/v1/calls\\..\\x", statuses=(400, 404, 405, 422)),
        _aimed("/v1/\uff43alls".encode(), statuses=(400,)),
        _aimed(b"/v1/calls#fragment", statuses=(400, 404, 422)),
        _aimed(b"/V1/CALLS"),
        _aimed(b"/v1/calls/"),
        _aimed(b"*", statuses=(400,)),
        _aimed(b"evil.example:443", statuses=(400,)),
        _aimed(b"/" + b"x" * 64 * 1024, statuses=(414,)),
        _aimed(b"/v1/calls?" + b"x" * 64 * 1024, statuses=(414,)),
        _aimed(b"/v1/" + b"a/" * 3000),
        _aimed(b"/v1/sms/" + b"a" * 4000),
    ],
    "methods": [
        _method(b"TRACE"),
        _method(b"OPTIONS"),
        _method(b"PATCH"),
        _method(b"PROPFIND"),
        _method(b"NONSENSE", statuses=(400,)),
        _method(b"get", statuses=(400,)),
        _method(b"POST\0", statuses=(400,)),
        _method(b"X" * 10_000, statuses=(400,)),
        _raw(
            "CONNECT", b"CONNECT evil.example:443 HTTP/1.1\r\nhost: x\r\n\r\n", statuses=(400, 405)
        ),
        _raw("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nhost: " + HOST + b"\r\n\r\n"),
    ],
}
