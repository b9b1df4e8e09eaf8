"""The units of the configuration, and the file in the repository."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.settings_cases import SHIPPED, loaded

from integrationd.settings import (
    ConnectionSettings,
    RouteSettings,
    Settings,
    TenantSettings,
    load,
)
from integrationd.settings.model import FixedTables
from integrationd.settings.units import format_duration, parse_duration, parse_rate, parse_size

# Units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30), ("1.5s", 1.5), ("15m", 900), ("1h30m", 5400), ("2d", 172_800)],
)
def test_duration_is_read_with_its_unit(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "30x", "-1s", "1m1h", "1 s", "1e3s", None, True, []])
def test_duration_of_another_spelling_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="must be a duration"):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=10**12))
def test_duration_survives_being_written_and_read(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("text", "per_second"), [("20/s", 20), ("30/m", 0.5), ("36/h", 0.01), ("20", 20), (5, 5)]
)
def test_rate_is_read_as_calls_per_second(text: object, per_second: float) -> None:
    assert parse_rate(text) == pytest.approx(per_second)


@pytest.mark.parametrize(("text", "size"), [("1MiB", 2**20), ("2 KiB", 2048), ("7B", 7), (9, 9)])
def test_size_is_read_as_bytes(text: object, size: int) -> None:
    assert parse_size(text) == size


# The file in the repository


# Tables whose keys are not the model's own.
FREE = ("config", "order", "metadata", "defaults")


def uncommented(line: str) -> str:
    """Take the mark off a line that shows a setting; prose has a space after it."""
    return re.sub(r"^#(?=[a-z\[])", "", line)


def shown(directory: Path, lines: Iterable[str]) -> Settings:
    return loaded(directory, "\n".join(uncommented(line) for line in lines))


def leaves(table: Mapping[str, Any], *above: str) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in table.items():
        is_table = isinstance(value, Mapping) and key not in FREE
        found |= leaves(value, *above, key) if is_table else {(*above, key): value}
    return found


def test_shipped_file_is_ready_for_a_developer() -> None:
    settings = load(SHIPPED, {})

    assert settings.journal.path == SHIPPED.parent / "var/journal.db"
    assert settings.api.socket == SHIPPED.parent / "var/integrationd.sock"
    assert settings.api.address == ("127.0.0.1", 8700)
    assert settings.connections == {"console": ConnectionSettings(provider="console")}
    assert not settings.routes
    assert not settings.tenants


def test_shipped_file_comments_out_the_defaults_of_the_model(tmp_path: Path) -> None:
    """Every commented line of the fixed tables is the default, unless the default is none."""
    fixed_part = SHIPPED.read_text().partition("\n# Connections:")[0].splitlines()
    settings = shown(tmp_path, (line for line in fixed_part if line.startswith(("#", "["))))
    fixed = set(FixedTables.model_fields)

    stated = leaves(settings.model_dump(include=fixed, exclude_unset=True))
    defaults = leaves(Settings().model_dump(include=fixed))

    assert {way for way, default in defaults.items() if default is None} == {
        ("api", "socket_group"),
        ("api", "key_file"),
        ("journal", "key_file"),
        ("journal", "high_water"),
        ("journal", "critical"),
        ("webhooks", "public_url"),
        ("delivery", "breaker", "failure_rate"),
        ("link", "probe"),
        ("vault", "master_key"),
        ("vault", "previous_master_key"),
        ("app", "events_url"),
        ("app", "secret"),
    }
    assert {way: value for way, value in stated.items() if defaults[way] is not None} == {
        way: defaults[way] for way in stated if defaults[way] is not None
    }


def test_shipped_file_comments_out_the_defaults_of_a_connection(tmp_path: Path) -> None:
    settings = shown(tmp_path, SHIPPED.read_text().splitlines())
    plain = ConnectionSettings(provider="http")
    default = {way: value for way, value in leaves(plain.model_dump()).items() if value is not None}
    stated = leaves(settings.connections["partner"].model_dump())

    del default[("config",)]
    assert {way: stated[way] for way in default} == default
    assert settings.connections["partner"].limits(settings.delivery) == plain.limits(
        settings.delivery
    )


def test_shipped_file_comments_out_the_defaults_of_a_tenant(tmp_path: Path) -> None:
    settings = shown(tmp_path, SHIPPED.read_text().splitlines())
    plain = leaves(TenantSettings().model_dump())
    stated = leaves(settings.tenants["school"].model_dump())
    retention = leaves(settings.retention.model_dump())

    # An example has a name and notes of its own.
    examples = {("name",), ("metadata",), ("defaults",)}
    said = {way for way, value in plain.items() if value is not None} - examples
    assert {way: stated[way] for way in said} == {way: plain[way] for way in said}
    assert {way[1:]: value for way, value in stated.items() if way[0] == "retention"} == {
        way: retention[way] for way in retention if way != ("events",)
    }


def test_shipped_file_names_every_setting(tmp_path: Path) -> None:
    settings = shown(tmp_path, SHIPPED.read_text().splitlines())
    stated = settings.model_dump(exclude_unset=True)
    fixed = {table: keys for table, keys in stated.items() if table in FixedTables.model_fields}

    assert leaves(fixed).keys() == leaves(FixedTables().model_dump()).keys()
    assert leaves(stated["connections"]["partner"]).keys() == (
        leaves(ConnectionSettings(provider="http").model_dump()).keys()
    )
    assert (
        leaves(stated["tenants"]["school"]).keys() == leaves(TenantSettings().model_dump()).keys()
    )
    assert stated["routes"]["sms.send"].keys() == RouteSettings.model_fields.keys()
