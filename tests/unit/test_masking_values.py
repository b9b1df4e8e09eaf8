"""Masking of texts and of values in any encoding."""

import base64
import datetime as dt
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.faults.leaks import encoded as all_encodings
from tests.unit.masking_cases import (
    SECRET,
    decoded_runs,
    documents,
    encodings,
    jumbles,
    secrets,
    texts,
)

from integrationd.masking import DEPTH_LIMIT, MASK, Masker, is_secret_name
from integrationd.spelling import SHORTEST_BASE64_BYTES


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
        secrets.filter(lambda secret: len(secret.encode()) >= SHORTEST_BASE64_BYTES),
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

    @pytest.mark.parametrize("name", sorted(all_encodings(SECRET)))
    def test_value_is_masked_in_every_encoding(self, name: str) -> None:
        masker, form = Masker(["other-value", SECRET]), all_encodings(SECRET)[name]

        for shown in (
            masker.text(f"a {form.decode('latin-1')} z"),
            masker.without_values(f"a {form.decode('latin-1')} z"),
            masker.body(b"a " + form + b" z"),
            masker.body(json.dumps({"a": form.decode("latin-1")}).encode()),
        ):
            assert not any(one in shown.encode() for one in all_encodings(SECRET).values())
            assert MASK in shown

    @pytest.mark.parametrize("name", sorted(all_encodings(SECRET)))
    @pytest.mark.parametrize("cut", [1, 3])
    def test_beginning_of_a_value_is_masked_where_a_text_is_cut_off(
        self, name: str, cut: int
    ) -> None:
        form = all_encodings(SECRET)[name].decode("latin-1")
        if "\0" in form:
            return
        assert form[:-cut] not in Masker([SECRET]).excerpt(f"no: {form[:-cut]}…", 1000)


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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("written", [repr, lambda raw: repr({"said": raw.decode()})])
def test_value_in_utf_16_is_masked_where_its_zero_bytes_are_written_out(
    encoding: str, written: Callable[[bytes], str]
) -> None:
    value = "cQ7zkWx9Vbapi0.+V=SDD"
    masker, text = Masker([value]), f"it said {written(value.encode(encoding))}"

    shown = (masker.text(text), masker.body(text.encode()), masker.without_values(text))

    assert all("***" in one and "x\\x009" not in one for one in shown)
