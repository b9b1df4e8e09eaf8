"""What a plan refuses points at the member of the request that is at fault."""

from typing import Any

import pytest

from integrationd.settings import Problem, RejectedConfigError
from integrationd.supervisor.config_refusal import pointer_of, refused

WRITTEN: dict[str, Any] = {
    "provider": "http",
    "config": {"auth": [{"token": "t"}, {"kind": "bearer"}], "a/b": {"c~d": 1}},
}


@pytest.mark.parametrize(
    ("where", "pointer"),
    [
        (".config.auth[0].token", "/config/auth/0/token"),
        (".config.auth[1].token", "/config/auth/1/token"),
        (".config.auth[0].bearer.token", "/config/auth/0/token"),
        (".config.auth[9].token", "/config/auth"),
        ('.config."a/b"."c~d"', "/config/a~1b/c~0d"),
        (".config.base_url", "/config/base_url"),
        (".rate_limit", "/rate_limit"),
        ("", ""),
    ],
)
def test_pointer_is_the_way_through_what_was_written(where: str, pointer: str) -> None:
    assert pointer_of(where, WRITTEN) == pointer


def test_one_problem_is_told_by_itself_and_points_at_its_member() -> None:
    error = RejectedConfigError("x", [Problem("connections.shop.config.base_url", "is required")])

    told = refused(error, "shop", WRITTEN)

    assert (str(told), told.pointer, told.code) == ("is required", "/config/base_url", "invalid")


def test_several_problems_are_told_each_with_its_place() -> None:
    error = RejectedConfigError(
        "x",
        [
            Problem("connections.shop.config.base_url", "is required"),
            Problem("connections.shop", "cannot be made"),
        ],
    )

    told = refused(error, "shop", WRITTEN)

    assert str(told) == "/config/base_url: is required; shop: cannot be made"
    assert told.pointer == "/config/base_url"
