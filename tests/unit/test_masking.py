"""Masking of names, headers, URLs and bodies: secrets never show, the rest stays readable."""

import json
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.masking_cases import OPEN_NAMES, SECRET, SECRET_NAMES, documents

from integrationd import masking
from integrationd.masking import MASK, Masker, is_secret_name


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
