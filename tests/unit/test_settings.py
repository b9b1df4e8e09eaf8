"""The configuration: what it may say, what is refused, and in which words."""

from pathlib import Path

import pydantic
import pytest
from tests.unit.settings_cases import CONNECTION, loaded, problems_of

from integrationd.errors import ConfigError
from integrationd.sdk.provider import QuerySchedule
from integrationd.settings import (
    BreakerOverride,
    BreakerSettings,
    ConnectionLimits,
    ConnectionSettings,
    DeliverySettings,
    Problem,
    QueryOverride,
    RejectedConfigError,
    RouteSettings,
    Settings,
)
from integrationd.settings.load import PROBLEM_LIMIT

# What a sound file becomes


def test_settings_of_an_empty_file_are_the_defaults(tmp_path: Path) -> None:
    assert loaded(tmp_path, "") == Settings()


@pytest.mark.parametrize(
    ("content", "table", "key", "expected"),
    [
        ('[api]\nlisten = ""', "api", "listen", ""),
        ('[api]\nlisten = "127.0.0.2:0"', "api", "address", ("127.0.0.2", 0)),
        ('[api]\nlisten = "[::1]:8700"', "api", "address", ("::1", 8700)),
        ('[api]\nlisten = ""', "api", "address", None),
        ('[api]\nsocket = ""', "api", "socket", None),
        ('[api]\nsocket_mode = "0600"', "api", "socket_permissions", 0o600),
        ('[api]\nsocket_mode = "660"', "api", "socket_permissions", 0o660),
        ("[api]\nallowed_uids = [0, 1000]", "api", "allowed_uids", (0, 1000)),
        ("[api]\nstaff_uids = [1001]\nread_uids = [1002]", "api", "staff_uids", (1001,)),
        ('[api]\nmax_body = "64KiB"', "api", "max_body", 65536),
        ("[api]\nmax_body = 2048", "api", "max_body", 2048),
        ('[api]\nheader_timeout = "500ms"', "api", "header_timeout", 0.5),
        ('[journal]\nhigh_water = "1GiB"', "journal", "high_water", 2**30),
        ('[journal]\nhigh_water = 0\ncritical = "1MiB"', "journal", "critical", 2**20),
        ('[journal]\nhigh_water = "1MiB"\ncritical = "0"', "journal", "critical", 0),
        ('[journal]\nhigh_water = "1MiB"\ncritical = "1MiB"', "journal", "critical", 2**20),
        ("[journal]", "journal", "critical", None),
        ("[retention]\ncalls = 3600", "retention", "calls", 3600.0),
        ('[retention]\nevents = "1h30m"', "retention", "events", 5400.0),
        ("[delivery]\nbackoff_factor = 3", "delivery", "backoff_factor", 3.0),
        ('[log]\nformat = "json"', "log", "format", "json"),
    ],
)
def test_settings_keep_what_the_file_says(
    tmp_path: Path, content: str, table: str, key: str, expected: object
) -> None:
    assert getattr(getattr(loaded(tmp_path, content), table), key) == expected


def test_settings_join_relative_paths_to_the_directory_of_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        '[api]\nsocket = "./run/s"\nkey_file = "k"\n[journal]\npath = "/abs/j.db"\n'
        '[plugins]\npaths = ["own"]',
        {"INTEGRATIOND_JOURNAL__KEY_FILE": "from-env"},
    )

    assert settings.api.socket == tmp_path / "run/s"
    assert settings.api_key_file == tmp_path / "k"
    assert settings.journal.path == Path("/abs/j.db")
    assert settings.instance_key_file == tmp_path / "from-env"
    assert settings.plugins.paths == (tmp_path / "own",)


def test_settings_put_keys_beside_the_journal_unless_told(tmp_path: Path) -> None:
    settings = loaded(tmp_path, '[journal]\npath = "state/j.db"')

    assert settings.api_key_file == tmp_path / "state/api.key"
    assert settings.instance_key_file == tmp_path / "state/instance.key"


def test_settings_accept_a_route_to_a_missing_connection_only_if_it_holds(tmp_path: Path) -> None:
    route = '[routes."sms.send"]\norder = ["later"]\n'

    settings = loaded(tmp_path, route + 'when_missing = "hold"')

    assert settings.routes["sms.send"] == RouteSettings(order=("later",), when_missing="hold")
    assert problems_of(tmp_path, CONNECTION + route) == {
        'routes."sms.send".order[0]': "'later' is unknown; the connections here are: a; "
        'or set when_missing = "hold" to keep calls'
    }


def test_settings_never_change(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "")

    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.log.level = "debug"  # type: ignore[misc]  # the point of the test


def test_settings_of_the_same_file_are_equal(tmp_path: Path) -> None:
    content = CONNECTION + 'rate_limit = "20/s"\nconfig = { token = "env:T" }'

    assert loaded(tmp_path, content) == loaded(tmp_path, content)


def test_connection_repr_hides_its_config(tmp_path: Path) -> None:
    settings = loaded(tmp_path, CONNECTION + 'config = { token = "hunter2" }')

    assert settings.connections["a"].config == {"token": "hunter2"}
    assert "hunter2" not in repr(settings)


# What connections take from [delivery] and from their plugin


def test_connection_limits_default_to_delivery() -> None:
    connection = ConnectionSettings(provider="http")

    assert connection.limits(DeliverySettings()) == ConnectionLimits(
        timeout_s=30.0,
        lease_s=40.0,
        attempts=5,
        give_up_after_s=72 * 3600.0,
        breaker=BreakerSettings(),
    )


def test_connection_limits_override_delivery_key_by_key() -> None:
    delivery = DeliverySettings(breaker=BreakerSettings(failures=8, open_for=5))
    connection = ConnectionSettings(
        provider="http", timeout=4, attempts=1, give_up_after=60, breaker=BreakerOverride(window=9)
    )

    assert connection.limits(delivery) == ConnectionLimits(
        timeout_s=4.0,
        lease_s=14.0,
        attempts=1,
        give_up_after_s=60.0,
        breaker=BreakerSettings(failures=8, open_for=5, window=9),
    )


def test_query_override_changes_only_what_it_names() -> None:
    schedule = QuerySchedule(first_s=1, factor=3, cap_s=60, window_s=600)

    assert QueryOverride().over(schedule) == schedule
    assert QueryOverride(cap=90, window=900).over(schedule) == QuerySchedule(
        first_s=1, factor=3, cap_s=90, window_s=900
    )


# What is refused


@pytest.mark.parametrize(
    ("content", "where", "reason"),
    [
        ('[api]\nlisten = "0.0.0.0:80"', "api.listen", "is not a loopback address"),
        ('[api]\nlisten = "[::]:80"', "api.listen", "is not a loopback address"),
        ('[api]\nlisten = "localhost:80"', "api.listen", "must name an IP address"),
        ('[api]\nlisten = "127.0.0.1"', "api.listen", 'must be "ADDRESS:PORT"'),
        ('[api]\nlisten = "127.0.0.1:65536"', "api.listen", 'must be "ADDRESS:PORT"'),
        ("[api]\nlisten = 8700", "api.listen", "must be a text in quotes"),
        ("[api]\nlisten = 2020-01-01", "api.listen", "must be a text in quotes"),
        ('[api]\nlisten = ""\nsocket = ""', "api.socket", "both switched off"),
        ('[api]\nsocket = "/' + "x" * 107 + '"', "api.socket", "is 108 bytes long"),
        ('[api]\nsocket = "/' + "é" * 54 + '"', "api.socket", "is 109 bytes long"),
        ('[api]\nsocket = "a\\u0000b"', "api.socket", "NUL"),
        ('[api]\nkey_file = "~/k"', "api.key_file", "'~' is not expanded"),
        ("[api]\nsocket_mode = 0o660", "api.socket_mode", "must be a text in quotes"),
        ('[api]\nsocket_mode = "0888"', "api.socket_mode", "must be an octal mode"),
        ('[api]\nsocket_group = ""', "api.socket_group", "at least 1 character"),
        ("[api]\nallowed_uids = 1000", "api.allowed_uids", "must be a list"),
        ("[api]\nallowed_uids = [-1]", "api.allowed_uids[0]", "greater than or equal to 0"),
        (
            "[api]\nstaff_uids = [2, 1]\nallowed_uids = [1]",
            "api.staff_uids",
            "allowed_uids already",
        ),
        ("[api]\nread_uids = [7]\nstaff_uids = [7]", "api.read_uids", "names 7, which has"),
        ("[api]\nallowed_uids = [true]", "api.allowed_uids[0]", "not true or false"),
        ("[api]\nmax_connections = 0", "api.max_connections", "greater than or equal to 1"),
        ('[api]\nmax_body = "2MiB"', "api.max_body", "less than or equal to 1048576"),
        ('[api]\nmax_body = "1MB"', "api.max_body", "must be a size"),
        ("[api]\nmax_body = 2048.5", "api.max_body", "must be a size"),
        ("[api]\nheader_timeout = 0", "api.header_timeout", "between 1ms and 10m"),
        ("[api]\nbody_timeout = -1", "api.body_timeout", "between 1ms and 10m"),
        ("[api]\nbody_timeout = inf", "api.body_timeout", "must be a duration"),
        ('[api]\nbody_timeout = "soon"', "api.body_timeout", "must be a duration"),
        ("[api]\nbody_timeout = true", "api.body_timeout", "must be a duration"),
        ('[journal]\npath = ""', "journal.path", "must not be empty"),
        ("[journal]\npath = 3", "journal.path", "must be a path in quotes"),
        ("[journal]\nencrypt_payloads = true", "journal.encrypt_payloads", "not available"),
        ('[journal]\nhigh_water = "9 m"', "journal.high_water", "must be a size"),
        ("[journal]\ncritical = -1", "journal.critical", "greater than or equal to 0"),
        (
            '[journal]\nhigh_water = "64MiB"\ncritical = "65MiB"',
            "journal.critical",
            "is more than high_water (64.0 MiB)",
        ),
        ('[retention]\ncalls = "0s"', "retention.calls", "between 1s and 3650d"),
        ("[delivery]\nattempts = 0", "delivery.attempts", "greater than or equal to 1"),
        ("[delivery]\nattempts = 1.5", "delivery.attempts", "valid integer"),
        ("[delivery]\nattempts = 0x" + "f" * 9999, "delivery.attempts", "less than or equal"),
        ("[delivery]\ntimeout = 0x" + "f" * 9999, "delivery.timeout", "must be a duration"),
        ('[delivery]\ntimeout = "11m"', "delivery.timeout", "between 1ms and 10m"),
        ("[delivery]\nbackoff_first = 0", "delivery.backoff_first", "between 1ms and 1d"),
        ("[delivery]\nbackoff_factor = 0.5", "delivery.backoff_factor", "greater than or equal"),
        ("[delivery]\nbackoff_factor = nan", "delivery.backoff_factor", "finite"),
        ('[delivery]\nbackoff_cap = "500ms"', "delivery.backoff_cap", "shorter than backoff_first"),
        ("[delivery]\nlease_margin = 0", "delivery.lease_margin", "between 1s and 10m"),
        ("[delivery]\nbreaker = 5", "delivery.breaker", "must be a table"),
        ("[delivery.breaker]\nfailures = 0", "delivery.breaker.failures", "greater than or equal"),
        ("[delivery.breaker]\nfailure_rate = 0", "delivery.breaker.failure_rate", "greater than 0"),
        ("[delivery.breaker]\nfailure_rate = 2", "delivery.breaker.failure_rate", "less than or"),
        ('[log]\nformat = "xml"', "log.format", "must be 'console' or 'json'"),
        ("api = 3", "api", "must be a table"),
        ("connections = 3", "connections", "must be a table"),
        ("[connections.a]", "connections.a.provider", "is required"),
        ('[connections.a]\nprovider = "../x"', "connections.a.provider", "is no provider code"),
        ('[connections.A]\nprovider = "http"', "connections.A", "is no connection name"),
        ('[connections."a b"]\nprovider = "http"', 'connections."a b"', "is no connection name"),
        (CONNECTION + 'environment = "live"', "connections.a.environment", "'sandbox' or"),
        (CONNECTION + "config = 3", "connections.a.config", "must be a table"),
        (CONNECTION + 'rate_limit = "20/w"', "connections.a.rate_limit", "must be a rate"),
        (CONNECTION + "rate_limit = 0", "connections.a.rate_limit", 'between "1/d" and'),
        (CONNECTION + "burst = 0", "connections.a.burst", "greater than or equal to 1"),
        (CONNECTION + 'on_uncertain = "ask"', "connections.a.on_uncertain", "'hold' or 'repeat'"),
        (CONNECTION + "max_repeats = -1", "connections.a.max_repeats", "greater than or equal"),
        (CONNECTION + 'tenant = "a b"', "connections.a.tenant", "is no tenant id"),
        (CONNECTION + 'query = { first = "9s", cap = "1s" }', "connections.a.query.cap", "shorter"),
        (CONNECTION + "breaker = { failures = 0 }", "connections.a.breaker.failures", "greater"),
        ('[routes.sms]\norder = ["a"]', "routes.sms", "write category.verb"),
        ('[routes."sms.send"]\norder = []', 'routes."sms.send".order', "must name a connection"),
    ],
)
def test_settings_refuse_by_table_and_key(
    tmp_path: Path, content: str, where: str, reason: str
) -> None:
    assert reason in problems_of(tmp_path, content)[where]


@pytest.mark.parametrize("table", ["subscriptions"])
def test_settings_say_that_a_planned_table_is_not_available(tmp_path: Path, table: str) -> None:
    assert problems_of(tmp_path, f"[{table}]\nx = 1") == {table: "is not available in this version"}


def test_settings_refuse_a_route_that_names_a_connection_twice(tmp_path: Path) -> None:
    content = CONNECTION + '[connections.b]\nprovider = "http"\n[routes."sms.send"]\n'

    assert problems_of(tmp_path, content + 'order = ["a", "b", "a"]') == {
        'routes."sms.send".order': "names 'a' twice"
    }


@pytest.mark.parametrize(
    ("content", "where", "nearest"),
    [
        ("[apii]", "apii", "api"),
        ("[connection.a]", "connection", "connections"),
        ("[api]\nlistn = 1", "api.listn", "listen"),
        ("[delivery.breaker]\nfailure = 1", "delivery.breaker.failure", "failures"),
        (CONNECTION + "ratelimit = 1", "connections.a.ratelimit", "rate_limit"),
        (CONNECTION + "query = { caps = 1 }", "connections.a.query.caps", "cap"),
        ('[routes."a.b"]\norder = ["a"]\nwhen = 1', 'routes."a.b".when', "when_missing"),
    ],
)
def test_settings_name_the_nearest_key(
    tmp_path: Path, content: str, where: str, nearest: str
) -> None:
    assert problems_of(tmp_path, content)[where] == f"is unknown; did you mean {nearest!r}?"


def test_settings_list_the_keys_where_none_is_near(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "[log]\nxyz = 1") == {
        "log.xyz": "is unknown; the keys here are: format, level"
    }


def test_settings_report_every_problem_at_once(tmp_path: Path) -> None:
    found = problems_of(
        tmp_path,
        '[api]\nlisten = "8700"\nhost = 1\n[connections.a]\n[routes."sms.send"]\norder = ["b"]',
        {"INTEGRATIOND_LOGS__LEVEL": "info", "INTEGRATIOND_DELIVERY__ATTEMPTS": "0"},
    )

    assert set(found) == {
        "api.listen",
        "api.host",
        "delivery.attempts",
        "connections.a.provider",
        "INTEGRATIOND_LOGS__LEVEL",
        'routes."sms.send".order[0]',
    }


def test_settings_stop_listing_problems_at_a_limit(tmp_path: Path) -> None:
    content = "\n".join(f"key{number} = 1" for number in range(PROBLEM_LIMIT * 100))

    with pytest.raises(RejectedConfigError) as caught:
        loaded(tmp_path, content)

    assert len(caught.value.problems) == PROBLEM_LIMIT + 1
    assert "more problems" in caught.value.problems[-1].reason


def test_rejected_config_error_lists_its_problems_a_line_each() -> None:
    error = RejectedConfigError("f.toml", [Problem("a.b", "is wrong"), Problem("c", "is required")])

    assert isinstance(error, ConfigError)
    assert str(error) == "f.toml cannot be used:\n  a.b: is wrong\n  c: is required"


# The environment


@pytest.mark.parametrize(
    ("name", "value", "table", "key", "expected"),
    [
        ("API__LISTEN", "127.0.0.1:1", "api", "listen", "127.0.0.1:1"),
        ("API__LISTEN", "", "api", "listen", ""),
        ("API__SOCKET", "", "api", "socket", None),
        ("API__ALLOWED_UIDS", "[1, 2]", "api", "allowed_uids", (1, 2)),
        ("DELIVERY__ATTEMPTS", "7", "delivery", "attempts", 7),
        ("DELIVERY__TIMEOUT", "15", "delivery", "timeout", 15.0),
        ("DELIVERY__BREAKER__WINDOW", "9", "delivery", "breaker", BreakerSettings(window=9)),
        ("DELIVERY__BREAKER", '{"window": 9}', "delivery", "breaker", BreakerSettings(window=9)),
        ("LOG__LEVEL", "debug", "log", "level", "debug"),
        ("JOURNAL__ENCRYPT_PAYLOADS", "false", "journal", "encrypt_payloads", False),
    ],
)
def test_environment_overrides_a_fixed_table(
    tmp_path: Path, name: str, value: str, table: str, key: str, expected: object
) -> None:
    content = '[api]\nlisten = "127.0.0.1:9"\n[log]\nlevel = "error"\n[delivery]\nattempts = 2'

    settings = loaded(tmp_path, content, {f"INTEGRATIOND_{name}": value})

    assert getattr(getattr(settings, table), key) == expected


def test_environment_leaves_the_other_keys_of_a_table_to_the_file(tmp_path: Path) -> None:
    settings = loaded(
        tmp_path,
        "[delivery.breaker]\nfailures = 9\nwindow = 7",
        {"INTEGRATIOND_DELIVERY__BREAKER__WINDOW": "8"},
    )

    assert settings.delivery.breaker == BreakerSettings(failures=9, window=8)


def test_environment_ignores_names_that_are_not_settings(tmp_path: Path) -> None:
    environ = {
        "INTEGRATIOND_CONFIG": "elsewhere.toml",
        "INTEGRATIOND_SOCKET": "/run/other.sock",
        "INTEGRATIOND_PORT": "tcp://10.0.0.1:80",
        "integrationd_log__level": "debug",
        "LOG__LEVEL": "debug",
    }

    assert loaded(tmp_path, "", environ) == Settings()


def test_environment_of_the_process_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INTEGRATIOND_LOG__LEVEL", "debug")

    assert loaded(tmp_path, "", {}).log.level == "info"


@pytest.mark.parametrize(
    ("name", "value", "where", "reason"),
    [
        ("CONNECTIONS__A__PROVIDER", "x", None, "connections are read from the file only"),
        ("ROUTES__X__ORDER", "[]", None, "routes are read from the file only"),
        ("LOGS__LEVEL", "info", None, "is unknown; did you mean 'log'?"),
        ("LOG", "debug", None, "names a table; name a key of it: INTEGRATIOND_LOG__KEY"),
        ("LOG__LEV", "info", "log.lev", "is unknown; did you mean 'level'?"),
        ("LOG__LEVEL", "loud", "log.level", "must be 'debug', 'info', 'warning' or 'error'"),
        ("API__ALLOWED_UIDS", "1,2", "api.allowed_uids", "must be a list"),
        ("DELIVERY__BREAKER", "{", "delivery.breaker", "must be a table"),
    ],
)
def test_environment_is_refused_by_the_name_of_the_variable(
    tmp_path: Path, name: str, value: str, where: str | None, reason: str
) -> None:
    variable = f"INTEGRATIOND_{name}"

    found = problems_of(tmp_path, "", {variable: value})

    assert found == ({where: f"{reason} (set by {variable})"} if where else {variable: reason})
