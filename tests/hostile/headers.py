"""Headers that lie about who is calling, from where, or whether it was asked before."""

from collections.abc import Iterable

from tests.hostile.catalogue import Attack, Families
from tests.hostile.wire import HOST, KEY, request

_CALL = b'{"operation":"rehearsal.hold","payload":{"script":["delivered"]}}'
_SHOWN = b"authorization: Bearer " + KEY


def _bare(*lines: bytes, target: bytes = b"/v1/calls") -> bytes:
    return request(b"POST", target, b"x", *lines, bare=True)


def _key(name: str, *lines: bytes, target: bytes = b"/v1/calls") -> Attack:
    """Show a key that is none; the Unix socket does not look at it, only at the body."""
    codes = {"key_wrong", "key_missing", "too_many_bad_keys"}
    sent = _bare(b"host: " + HOST, *lines, target=target)
    return Attack(name, sent, statuses=(401, 429), codes=codes, unix=(400, 422))


def _host(value: bytes) -> Attack:
    sent = _bare(b"host: " + value, _SHOWN)
    return Attack(repr(value), sent, statuses=(403,), codes={"host_not_allowed"}, unix=(400,))


def _page(name: str, *lines: bytes) -> Attack:
    sent = request(b"POST", b"/v1/calls", _CALL, *lines)
    return Attack(name, sent, statuses=(403,), codes={"cross_site"})


def _idempotency(name: str, *keys: bytes) -> Attack:
    lines: Iterable[bytes] = (b"idempotency-key: " + key for key in keys)
    return Attack(
        name,
        request(b"POST", b"/v1/calls", _CALL, *lines),
        statuses=(400,),
        codes={"bad_idempotency_key", "doubled_header", "malformed_request"},
    )


_FOREIGN = (
    b"evil.example",
    b"evil.example:8700",
    b"127.0.0.1.evil.example",
    b"localhost.evil.example",
    b"localhost@evil.example",
    b"0.0.0.0",
    b"127.1",
    b"2130706433",
    b"0x7f000001",
    b"169.254.169.254",
    b"[::ffff:10.0.0.1]",
    b"localhost,evil.example",
    b"localhost/",
    b"",
    b"x" * 4000,
)

HEADER_ATTACKS: Families = {
    "keys": [
        _key("no key"),
        _key("wrong key", b"authorization: Bearer idk_wrong"),
        _key("empty key", b"authorization: Bearer "),
        _key("key of another scheme", b"authorization: Basic " + KEY),
        _key("key without a scheme", b"authorization: " + KEY),
        _key("key with something behind it", _SHOWN + b"x"),
        _key("key twice", _SHOWN, _SHOWN),
        _key("key in quotes", b'authorization: Bearer "' + KEY + b'"'),
        _key("key not in ASCII", b"authorization: Bearer \xc3\xa9\xff"),
        _key("key of 16 KiB", b"authorization: Bearer " + b"k" * 16_384),
        _key("key in another header", b"x-api-key: " + KEY),
        _key("key in a cookie", b"cookie: key=" + KEY),
        _key("key in the query", target=b"/v1/calls?api_key=" + KEY),
        _key("proxied key", b"proxy-authorization: Bearer " + KEY),
        _key(
            "forwarded from this machine",
            b"x-forwarded-for: 127.0.0.1",
            b"forwarded: for=127.0.0.1",
        ),
        Attack(
            "key of 1 MiB",
            _bare(b"host: " + HOST, b"authorization: Bearer " + b"k" * 1024 * 1024),
            statuses=(431,),
        ),
        Attack(
            "key with a line feed behind it",
            _bare(b"host: " + HOST, _SHOWN + b"\n"),
            statuses=(400,),
        ),
    ],
    "hosts": [
        *map(_host, _FOREIGN),
        Attack("no host", _bare(_SHOWN), statuses=(400,), codes={"host_missing"}, unix=(400,)),
        Attack(
            "two hosts",
            _bare(b"host: " + HOST, b"host: evil.example", _SHOWN),
            statuses=(400,),
            codes={"host_missing"},
        ),
        Attack(
            "health asked for by a rebound name",
            request(b"GET", b"/healthz", None, b"host: evil.example", bare=True),
            statuses=(403,),
            codes={"host_not_allowed"},
            unix=(200,),
        ),
    ],
    "web pages": [
        _page("Origin of another site", b"origin: https://evil.example"),
        _page("Origin null", b"origin: null"),
        _page("Origin empty", b"origin:"),
        _page("Origin of another port here", b"origin: http://localhost:3000"),
        _page("Origin twice", b"origin: http://" + HOST, b"origin: https://evil.example"),
        _page("Origin with a path", b"origin: http://" + HOST + b"/x"),
        _page("Origin of an extension", b"origin: chrome-extension://abcdef"),
        _page("Sec-Fetch-Site cross-site", b"sec-fetch-site: cross-site"),
        _page("Sec-Fetch-Site same-site", b"sec-fetch-site: same-site"),
        _page("Sec-Fetch-Site unheard of", b"sec-fetch-site: x"),
        _page("simple form", b"content-type: text/plain", b"origin: https://evil.example"),
        _page(
            "form of a sandbox", b"content-type: application/x-www-form-urlencoded", b"origin: null"
        ),
        Attack(
            "preflight",
            request(
                b"OPTIONS",
                b"/v1/calls",
                None,
                b"origin: https://evil.example",
                b"access-control-request-method: POST",
                b"access-control-request-private-network: true",
            ),
            statuses=(403,),
            codes={"cross_site"},
        ),
    ],
    "idempotency keys": [
        _idempotency("empty", b""),
        _idempotency("10 KB", b"k" * 10_000),
        _idempotency("256 characters", b"k" * 256),
        _idempotency("control character", b"a\x01b"),
        _idempotency("tab", b"a\tb"),
        _idempotency("not UTF-8", b"\xff\xfe"),
        _idempotency("bidi mark", "a\u202eb".encode()),
        _idempotency("line separator", "a\u2028b".encode()),
        _idempotency("twice", b"a", b"b"),
        _idempotency("NUL", b"a\0b"),
    ],
}
