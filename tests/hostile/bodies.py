"""Bodies that are no call: no JSON, JSON past all measure, and JSON that lies about itself."""

from tests.api.test_hostile import BODIES, HEAD
from tests.hostile.catalogue import Attack, Families
from tests.hostile.wire import request

MIB = 1024 * 1024
CODES = frozenset({"not_json", "too_deep", "invalid", "unknown_operation", "not_configured"})


def _posted(name: str, body: bytes, *lines: bytes, target: bytes = b"/v1/calls") -> Attack:
    return Attack(name, request(b"POST", target, body, *lines), codes=CODES)


def _wrong_type(name: str, member: bytes) -> Attack:
    return _posted(f"{name} of the wrong kind", HEAD + b'"%b":' % name.encode() + member + b"}")


BODY_ATTACKS: Families = {
    "bodies": [_posted(name, body) for name, body in BODIES.items()],
    "bodies of a short form": [
        _posted(name, body, target=b"/v1/rehearsal/hold")
        for name, body in BODIES.items()
        if name != "empty"
    ],
    "members": [
        _wrong_type("operation", b"[]"),
        _wrong_type("payload", b'"text"'),
        _wrong_type("connection", b"7"),
        _wrong_type("priority", b'"urgent"'),
        _wrong_type("priority", b"1"),
        _wrong_type("reference", b'{"type":"a"}'),
        _wrong_type("reference", b'{"type":"a","id":"","more":1}'),
        _wrong_type("metadata", b"[1]"),
        _wrong_type("on_uncertain", b'"pray"'),
        _wrong_type("idempotency_key", b'"in the body"'),
        _wrong_type("__class__", b"1"),
        _posted(
            "10 kB of metadata over the limit", HEAD + b'"metadata":{"a":"%b"}}' % (b"x" * 26_000)
        ),
    ],
    "types": [
        _posted(
            "form", b"operation=rehearsal.hold", b"content-type: application/x-www-form-urlencoded"
        ),
        _posted(
            "multipart", b"--x\r\n\r\n1\r\n--x--", b"content-type: multipart/form-data; boundary=x"
        ),
        _posted("xml", b"<call/>", b"content-type: application/xml"),
        _posted("content type of 8 KiB", b"", b"content-type: " + b"x" * 8192),
    ],
    "compressed": [
        Attack(
            f"Content-Encoding {coding.decode()}",
            request(
                b"POST", b"/v1/calls", b"\x1f\x8b\x08" + b"\0" * 20, b"content-encoding: " + coding
            ),
            statuses=(415,),
            codes={"content_encoding"},
        )
        for coding in (b"gzip", b"GZIP", b"br", b"deflate", b"zstd", b"identity, gzip", b"x")
    ],
    "size": [
        Attack(
            name,
            request(b"POST", b"/v1/calls", None, b"content-length: %d" % size) + b"{",
            statuses=(413,),
            codes={"too_large"},
        )
        for name, size in (
            ("200 MiB declared", 200 * MIB),
            ("10 GiB declared", 10 * 1024 * MIB),
            ("2^63 declared", 2**63),
            ("one byte too much declared", MIB + 1),
        )
    ],
}
