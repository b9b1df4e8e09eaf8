"""Masking: what is secret by name or value never shows, what is not stays readable."""

import base64
import datetime as dt
import json
import re
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrationd import masking
from integrationd.masking import DEPTH_LIMIT, MASK, Masker, is_secret_name

SECRET = "sk_live_51Hx+/8q"

SECRET_NAMES = [
    "Authorization",
    "Proxy-Authorization",
    "authorisation",
    "authorization_code",
    "Cookie",
    "Set-Cookie",
    "X-Api-Key",
    "apiKey",
    "api_key",
    "api key",
    "APIKEY",
    "api_keys",
    "DD-API-KEY",
    "DD-APPLICATION-KEY",
    "Ocp-Apim-Subscription-Key",
    "access_key",
    "secretAccessKey",
    "secret_key",
    "private_key",
    "consumer_key",
    "consumer-secret",
    "client_secret",
    "signing_key",
    "license_key",
    "token",
    "Token",
    "accessToken",
    "refresh_token",
    "id_token",
    "X-Goog-Channel-Token",
    "X-Amz-Security-Token",
    "deviceToken",
    "device_tokens",
    "tokens",
    "registration_ids",
    "secret",
    "secrets",
    "webhook_secret",
    "secret_hash",
    "verif-hash",
    "password",
    "pass_word",
    "password2",
    "user[password]",
    "passwd",
    "pass",
    "smtp_pass",
    "passphrase",
    "passcode",
    "Passkey",
    "InitiatorPassword",
    "pwd",
    "pin",
    "PIN",
    "card_pin",
    "userPin",
    "newPIN",
    "otp",
    "cvv",
    "cvv2",
    "cvc",
    "credential",
    "SecurityCredential",
    "credentials",
    "X-Amz-Credential",
    "Signature",
    "X-Signature",
    "x-paystack-signature",
    "X-Hub-Signature-256",
    "sig",
    "auth",
    "X-Sentry-Auth",
    "jwt",
    "assertion",
    "client_assertion",
    "code_verifier",
]

OPEN_NAMES = [
    "",
    "key",
    "reference",
    "idempotency_key",
    "Idempotency-Key",
    "collapse_key",
    "public_key",
    "private_key_id",
    "token_count",
    "token_type",
    "max_tokens",
    "total_tokens",
    "password_changed_at",
    "secret_name",
    "authorization_url",
    "author",
    "code",
    "statusCode",
    "pincode",
    "shipping",
    "spin",
    "compass",
    "oauth",
    "design",
    "signed_at",
    "cookie_policy",
    "expires_in",
    "amount",
    "phone",
    "to",
]


def encodings(secret: str) -> Iterator[str]:
    """Write a secret in the ways in which encoders do."""
    yield secret
    for encoded in (quote(secret), quote(secret, safe=""), quote_plus(secret)):
        yield encoded
        yield re.sub("%..", lambda found: found[0].lower(), encoded)
    for ensure_ascii in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ensure_ascii)[1:-1]
        yield escaped
        yield escaped.replace("/", r"\/")
        yield re.sub("[<>&'+]", lambda found: f"\\u{ord(found[0]):04X}", escaped)


def decoded_runs(text: str) -> Iterator[bytes]:
    """Decode everything in a text that may be base64, at every offset."""
    for run in re.findall(r"[A-Za-z0-9+/_-]+", text):
        standard = run.replace("-", "+").replace("_", "/")
        for offset in range(4):
            piece = standard[offset:]
            usable = piece[: len(piece) - (len(piece) % 4 == 1)]
            yield base64.b64decode(usable + "=" * (-len(usable) % 4))


texts = st.text(st.characters(codec="utf-8"), max_size=40)
secrets = st.text(
    st.sampled_from("abcXYZ0189-._~+/=&%?\\\"'<>{}[]:;, *\n\té€😀") | st.characters(codec="utf-8"),
    min_size=6,
    max_size=40,
)
pieces = st.sampled_from(
    [
        *SECRET_NAMES,
        *OPEN_NAMES[1:],
        *("=", ":", ": ", " = ", "=>", '"', "'", "\\", '\\"', "&", ";", ",", " ", "\n", "?", "#"),
        *("{", "}", "[", "]", "(", ")", "://", "@", "/", "%", "%20", "+", MASK, "*", "\0", "é"),
        *("bearer ", "Basic ", "null", "12", "x", SECRET, quote_plus(SECRET), "https://u:p@h/"),
    ]
)
jumbles = st.lists(pieces, max_size=16).map("".join)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | jumbles | texts,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(jumbles | pieces, inner, max_size=4)
    ),
    max_leaves=12,
)


class TestNames:
    @pytest.mark.parametrize("name", SECRET_NAMES)
    def test_secret_name_is_known(self, name: str) -> None:
        assert is_secret_name(name)
        assert is_secret_name(name.upper()) or "Pin" in name or "newPIN" in name

    @pytest.mark.parametrize("name", OPEN_NAMES)
    def test_innocent_name_stays_open(self, name: str) -> None:
        assert not is_secret_name(name)

    def test_long_name_is_known_by_its_end(self) -> None:
        assert is_secret_name("x" * 100_000 + "_token")
        assert not is_secret_name("token_" + "x" * 100_000)

    @given(st.from_regex(masking._SECRET_NAME).filter(lambda name: name.isascii()))
    def test_every_secret_name_gives_a_hint(self, name: str) -> None:
        lower = name.encode().lower()

        assert any(hint.search(lower) for hint in masking._HINTS)


class TestHeaders:
    def test_secret_header_is_masked_whole(self) -> None:
        headers = {"Authorization": "Bearer abc", "Accept": "text/html", "cookie": "a=b; c=d"}

        assert Masker().headers(headers) == {
            "Authorization": MASK,
            "Accept": "text/html",
            "cookie": MASK,
        }

    def test_pairs_of_one_name_are_joined(self) -> None:
        pairs: list[tuple[str | bytes, str | bytes]] = [
            ("via", "a"),
            (b"via", b"b"),
            ("Set-Cookie", "c"),
            ("Set-Cookie", "d"),
        ]

        assert Masker().headers(pairs) == {"via": "a, b", "Set-Cookie": f"{MASK}, {MASK}"}

    def test_registered_value_is_masked_in_any_header(self) -> None:
        assert Masker([SECRET]).headers({"x-user": f"me/{SECRET}"}) == {"x-user": "me/***"}

    def test_secret_parameter_of_a_location_is_masked(self) -> None:
        location = {"location": "https://h/cb?code=1&access_token=abc"}

        assert Masker().headers(location) == {"location": "https://h/cb?code=1&access_token=***"}


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://h/a?b=c", "https://h/a?b=c"),
            ("https://user:pass@h:8/a", "https://***@h:8/a"),
            ("https://key@h/1", "https://***@h/1"),
            ("https://h/a?api_key=x,y)z&b=c", "https://h/a?api_key=***&b=c"),
            ("https://h/?a%5Bpassword%5D=x", "https://h/?a%5Bpassword%5D=***"),
            ("https://h/#access_token=x&state=y", "https://h/#access_token=***&state=y"),
            ("https://h/?token=&pin", "https://h/?token=&pin"),
            ("https://h/?at=me@h.example", "https://h/?at=me@h.example"),
            (f"https://h/hook/{SECRET}", "https://h/hook/***"),
            (f"https://h/?q={quote_plus(SECRET)}", "https://h/?q=***"),
            ("https://h/?d=%7B%22pin%22%3A+12%7D", "https://h/?d=%7B%22pin%22%3A%22***%22%7D"),
            ("https://h/?d=\ud800+pin=1+\ud800", "https://h/?d=%3F+pin%3D***+%3F"),
            ("//[::1", "//[::1"),
        ],
    )
    def test_secrets_of_a_url_are_masked(self, url: str, shown: str) -> None:
        assert Masker([SECRET]).url(url) == shown


class TestBodies:
    def test_json_is_masked_by_name_at_any_depth(self) -> None:
        body = {"a": [{"token": "abc", "n": 1}], "pin": 1234, "password": {"old": "x"}, "key": "k"}

        shown = Masker().body(json.dumps(body).encode())

        assert json.loads(shown) == {
            "a": [{"token": MASK, "n": 1}],
            "pin": MASK,
            "password": MASK,
            "key": "k",
        }

    def test_push_registration_token_is_masked(self) -> None:
        shown = Masker().body(b'{"message":{"token":"bk3RNwTe3H0:CI2k","data":{"a":"b"}}}')

        assert json.loads(shown) == {"message": {"token": MASK, "data": {"a": "b"}}}

    def test_empty_secret_shows_that_it_is_empty(self) -> None:
        body = b'{"token": null, "password": "", "secrets": [], "pin": false}'

        assert Masker().body(body) == body.decode()

    def test_clean_body_comes_back_as_it_is(self) -> None:
        body = '{ "amount": 10.00,  "token_count": 3, "note": "Habari é" }'

        assert Masker([SECRET]).body(body.encode()) == body

    @pytest.mark.parametrize(
        "body",
        [
            b'{"\\u0070in": "abc-def"}',
            b'{"token" : "abc-def"}',
            b'{"token":\n"abc-def"}',
            b'\xef\xbb\xbf{"token": "abc-def"}',
            b'{"token": "abc-def", "token": null}',
            b'{"token": "abc-def"}\n{"token": "abc-def"}',
            b'{"token": "abc-def", "cut": "off',
            b'{"token": "abc-def',
            b"{'token': 'abc-def'}",
            b'"{\\"token\\": \\"abc-def\\"}"',
            b'{"inner": "{\\"token\\": \\"abc-def\\"}"}',
            b'{"tokens": ["abc-def", "abc-def"',
            b'{"note": "your password: abc-def"}',
            b'{"u": "https://h/?token=abc-def"}',
            b'{"u": "ftp://u:abc-def@h/"}',
            b'{"token": "\xff abc-def"}',
            b"token=abc-def&a=b",
            b"a=b&token=abc-def",
            "{'token': 'abc-def'}".encode("utf-16"),
            '{"token": "abc-def"}'.encode("utf-32-be"),
            b"[" * 100_000 + b'{"token": "abc-def"}',
            b'{"n": ' + b"9" * 5000 + b', "token": "abc-def"}',
        ],
    )
    def test_secret_of_an_odd_body_is_masked(self, body: bytes) -> None:
        shown = Masker().body(body)

        assert "abc-def" not in shown
        assert MASK in shown

    def test_form_is_masked_by_name(self) -> None:
        form = {"username": "sandbox", "api key": "a&b", "user[pin]": "12", "to": "+254 7"}

        shown = Masker().body(urlencode(form).encode(), "application/x-www-form-urlencoded")

        assert shown == "username=sandbox&api+key=***&user%5Bpin%5D=***&to=%2B254+7"

    def test_name_of_a_form_is_judged_as_it_is_shown(self) -> None:
        form = f"{SECRET}pass=0".replace("+", "%2B").encode()

        assert Masker([SECRET]).body(form, "application/x-www-form-urlencoded") == "***pass=***"

    def test_json_after_a_byte_order_mark_is_json(self) -> None:
        assert Masker().body(b'\xef\xbb\xbf{"token": [1]}') == '{"token":"***"}'

    def test_number_that_is_a_registered_value_is_masked(self) -> None:
        shown = Masker(["174379"]).body(b'{"shortcode": 174379, "x": 2174379.5, "ok": true}')

        assert json.loads(shown) == {"shortcode": MASK, "x": MASK, "ok": True}

    def test_value_that_spans_members_takes_the_body_with_it(self) -> None:
        assert Masker(['1,"b":2']).body(b'{"a":1,"b":2}') == f'"{MASK}"'

    def test_unpaired_surrogates_can_be_written_afterwards(self) -> None:
        shown = Masker().body(b'{"token": "abc", "note": "\\ud800"}')

        assert json.loads(shown.encode()) == {"token": MASK, "note": "\ud800"}

    @given(documents)
    def test_json_stays_json(self, document: Any) -> None:
        shown = Masker([SECRET]).body(json.dumps(document).encode())

        if isinstance(document, dict | list):
            json.loads(shown)

    @given(documents, st.sampled_from(SECRET_NAMES), st.booleans())
    def test_value_of_a_secret_name_never_shows(
        self, document: Any, name: str, ensure_ascii: bool
    ) -> None:
        hidden = "c0ffee-c0ffee"
        body = [document, {"member": {name: hidden}}]

        shown = Masker().body(json.dumps(body, ensure_ascii=ensure_ascii).encode())

        assert hidden not in shown

    @given(documents)
    def test_clean_means_that_nothing_would_be_masked(self, document: Any) -> None:
        masker = Masker([SECRET])
        body = json.dumps(document, ensure_ascii=False)

        if masker._is_clean(body.encode()):
            assert masker._json_or_text(body) == body


class TestText:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("nothing to see at 10:00", "nothing to see at 10:00"),
            ("token_count=3 key: 4", "token_count=3 key: 4"),
            ("token=abc next", "token=*** next"),
            ("api key = 'a b', x", "api key = '***', x"),
            ('{"pin": "1\\"2", "a": 1}', '{"pin": "***", "a": 1}'),
            ("{'secret' => 'x'}", "{'secret' => '***'}"),
            ("Authorization: Bearer a.b.c\r\nHost: h", "Authorization: ***\r\nHost: h"),
            ("Cookie: a=b; c=d\nX: y", "Cookie: ***\nX: y"),
            ("auth: bearer abc, def", "auth: ***, def"),
            ("bad secret: password: abc", "bad secret: password: ***"),
            ("GET https://u:p@h/?sig=a&b=c", "GET https://***@h/?sig=***&b=c"),
            ("(token=abc)", "(token=***)"),
            ("{token: abc}", "{token: ***}"),
            ("passwords: ['a', 'b']", "passwords: [***]"),
        ],
    )
    def test_what_follows_a_secret_name_is_masked(self, text: str, shown: str) -> None:
        assert Masker().text(text) == shown

    def test_longer_of_two_values_goes_whole(self) -> None:
        assert Masker(["abcdef", "abcdefghi"]).text("x abcdefghi y") == "x *** y"

    def test_short_values_are_left_out(self) -> None:
        assert Masker(["abcde", "", "  12345  "]).text("abcde 12345") == "abcde 12345"

    def test_value_is_known_without_the_space_around_it(self) -> None:
        assert Masker(["abcdef\n"]).text("xabcdefx") == "x***x"

    def test_more_values_can_be_added(self) -> None:
        masker = Masker(["first-value"])

        more = masker.with_values(["second-value"])

        assert more.text("first-value second-value") == "*** ***"
        assert masker.text("first-value second-value") == "*** second-value"

    def test_representation_does_not_show_values(self) -> None:
        assert SECRET not in repr(Masker([SECRET]))

    @given(secrets, texts, texts)
    @example("******", "*", "*")
    @example("a***bc", "a", "bc")
    def test_registered_value_never_survives_in_text(
        self, secret: str, before: str, after: str
    ) -> None:
        masker = Masker([secret])
        for encoded in encodings(secret):
            shown = masker.text(before + encoded + after)

            assert encoded not in shown
            assert secret not in shown

    @given(secrets, texts, texts)
    def test_registered_value_never_survives_in_a_body(
        self, secret: str, before: str, after: str
    ) -> None:
        masker = Masker([secret])
        whole = before + secret + after
        bodies = [json.dumps({"a": [whole]}), json.dumps({whole: 1}, ensure_ascii=False), whole]
        for body in bodies:
            shown = masker.body(body.encode())

            assert not [encoded for encoded in encodings(secret) if encoded in shown]
        for shown in (
            masker.body(urlencode({"a": whole}).encode(), "application/x-www-form-urlencoded"),
            masker.url("https://h/?" + urlencode({"a": whole})),
            masker.url(f"https://h/{quote(whole)}"),
        ):
            assert not [encoded for encoded in encodings(secret) if encoded in shown]

    @given(
        secrets.filter(lambda secret: len(secret.encode()) >= masking.SHORTEST_BASE64_BYTES),
        st.binary(max_size=20),
        st.binary(max_size=20),
    )
    def test_registered_value_never_survives_in_base64(
        self, secret: str, before: bytes, after: bytes
    ) -> None:
        masker = Masker([secret])
        raw = before + secret.encode() + after
        for encoded in (base64.b64encode(raw), base64.urlsafe_b64encode(raw)):
            for text in (encoded.decode(), quote(encoded, safe=""), json.dumps(encoded.decode())):
                shown = masker.text(f"x: {text}")

                assert not [run for run in decoded_runs(shown) if secret.encode() in run]

    def test_password_of_basic_authorization_is_masked(self) -> None:
        pair = base64.b64encode(b"user:correct-horse").decode()

        shown = Masker(["correct-horse"]).text(f"Basic {pair}")

        assert MASK in shown
        assert not [run for run in decoded_runs(shown) if b"correct" in run]


class TestValues:
    def test_copy_is_masked_and_the_original_is_not_touched(self) -> None:
        value = {"token": "abc", "list": [{"pin": 1}], "raw": b'{"pin": 1}', "pair": (1, 2)}

        shown = Masker().value(value)

        assert shown == {
            "token": MASK,
            "list": [{"pin": MASK}],
            "raw": '{"pin":"***"}',
            "pair": [1, 2],
        }
        assert value["token"] == "abc"

    def test_value_that_holds_a_mask_is_masked_as_well(self) -> None:
        assert Masker(["a***bc", "abcdef"]).value({"aabcdefbc": 1}) == {"***": 1}

    def test_names_that_are_registered_values_are_masked(self) -> None:
        assert Masker([SECRET]).value({SECRET: 1, 7: 2}) == {MASK: 1, 7: 2}

    def test_objects_of_other_types_are_left_alone(self) -> None:
        at = dt.datetime(2026, 1, 31, tzinfo=dt.UTC)

        assert Masker([SECRET]).value({"at": at, "none": None}) == {"at": at, "none": None}

    def test_what_is_in_itself_is_masked_there(self) -> None:
        value: dict[str, Any] = {"a": 1}
        value["self"] = [value]

        assert Masker().value(value) == {"a": 1, "self": [MASK]}

    def test_what_is_nested_too_deeply_is_masked(self) -> None:
        value: Any = "bottom"
        for _ in range(10 * DEPTH_LIMIT):
            value = [value]

        shown = Masker().value(value)

        for _ in range(DEPTH_LIMIT):
            shown = shown[0]
        assert shown == MASK

    def test_what_is_shared_a_million_times_is_walked_once(self) -> None:
        value: Any = "x"
        for _ in range(DEPTH_LIMIT - 1):
            value = [value, value]

        assert len(Masker().value(value)) == 2

    def test_integer_of_thousands_of_digits_is_masked(self) -> None:
        assert Masker([SECRET]).value([10**5000]) == [MASK]


class TestAlways:
    @given(jumbles)
    def test_masking_twice_is_masking_once(self, text: str) -> None:
        masker = Masker([SECRET, "=***,x", "***pin"])
        form = "application/x-www-form-urlencoded"
        once = masker.text(text)
        assert masker.text(once) == once
        once = masker.url(text)
        assert masker.url(once) == once
        for content_type in (None, "application/json", form):
            once = masker.body(text.encode(), content_type)
            assert masker.body(once.encode(), content_type) == once

    @given(documents)
    def test_masking_a_document_twice_is_masking_it_once(self, document: Any) -> None:
        masker = Masker([SECRET])

        once = masker.value(document)

        assert masker.value(once) == once
        shown = masker.body(json.dumps(document).encode())
        assert masker.body(shown.encode()) == shown

    @given(st.text(st.characters(), max_size=60), st.text(st.characters(), max_size=20))
    def test_no_text_is_an_error(self, text: str, value: str) -> None:
        masker = Masker([value, "abcdef\ud800"])

        masker.text(text)
        masker.url(text)
        masker.value({text: [text, value]})
        masker.headers({text: text})
        assert is_secret_name(text) in (True, False)

    @given(st.binary(max_size=200), st.none() | st.sampled_from(["x-www-form-urlencoded", "a/b"]))
    def test_no_body_is_an_error(self, body: bytes, content_type: str | None) -> None:
        Masker([SECRET]).body(body, content_type).encode()

    @pytest.mark.parametrize(
        "text",
        [
            "token" * 40_000,
            "token " * 40_000,
            "token:" * 40_000,
            'token="\\' * 20_000,
            "token" + " " * 200_000,
            "token" + "1" * 200_000,
            "token: " + "a-" * 100_000,
            "authorization:" * 20_000,
            "://" * 60_000,
            "://" + "a" * 200_000,
            "\\" * 200_000,
            "token=" + "{[" * 100_000,
        ],
    )
    def test_no_text_takes_for_ever(self, text: str) -> None:
        masker = Masker(["\\" * 60 + "x", SECRET])
        started = time.perf_counter()

        masker.text(text)
        masker.body(text.encode())
        masker.url(text)

        assert time.perf_counter() - started < 10
