"""Find ``integrationd.toml``, read it without trusting it, and turn it into settings.

Loading is a function of the file and the environment and keeps nothing: a reload is the same call
again, and the two results can be compared. Whatever is wrong, all of it is reported at once.
"""

import difflib
import itertools
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, get_args

import pydantic
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from integrationd.errors import ConfigError
from integrationd.settings.model import NOT_AVAILABLE, FixedTables, Settings
from integrationd.settings.references import UnusableError, read_regular_file
from integrationd.settings.table import BASE_DIR, Problem, RejectedConfigError, key_path

CONFIG_VARIABLE = "INTEGRATIOND_CONFIG"
FILE_LIMIT_BYTES = 1024 * 1024
PROBLEM_LIMIT = 100
LOCAL_PATH = Path("integrationd.toml")
SYSTEM_PATH = Path("/etc/integrationd/integrationd.toml")
VARIABLE_PREFIX = "INTEGRATIOND_"

_CANDIDATES = 50
_DELIMITER = "__"
_PLANNED_TABLES = frozenset({"subscriptions"})
_UNSAFE_PATTERN = re.compile(r"\0|\r(?!\n)|[\u202a-\u202e\u2066-\u2069]")
_POSITION_PATTERN = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
# The TOML reader needs quadratic time for a key of very many parts.
_DEEP_KEY_PATTERN = re.compile(
    r"(?<![A-Za-z0-9_-])"
    r"""(?:(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}"""
)
_HEADER_PATTERN = re.compile(rf"\s*\[+\s*({'|'.join(Settings.model_fields)})\b")
_KEY_PATTERN = re.compile(r"\s*[a-z_.-]{1,60}\s*=")
_REASONS = {
    "missing": "is required",
    "model_type": "must be a table",
    "mapping_type": "must be a table",
    "dict_type": "must be a table",
    "tuple_type": "must be a list",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
}

Location: TypeAlias = tuple[str | int, ...]


def find_config(
    explicit: Path | None, environ: Mapping[str, str], *, system_path: Path = SYSTEM_PATH
) -> Path:
    """Return the file to load: the one asked for, else the first that exists.

    Args:
        explicit: What ``--config`` names; it need not exist, :func:`load` says what is wrong.
        environ: Where ``INTEGRATIOND_CONFIG`` may name a file, with the same effect.
        system_path: Where the machine's own configuration stands.

    Raises:
        ConfigError: None is named and there is none in the usual places.
    """
    named = explicit or environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    for path in (LOCAL_PATH, system_path):
        if path.exists() or path.is_symlink():
            return path
    raise ConfigError(
        "there is no configuration: looked at --config (not given), "
        f"{CONFIG_VARIABLE} (not set), {LOCAL_PATH.absolute()} and {system_path}",
        hint=f"Name one with --config or {CONFIG_VARIABLE}; an empty file will do to begin with.",
    )


def load(
    path: Path, environ: Mapping[str, str], known: Collection[str] | None = frozenset()
) -> Settings:
    """Read the file, put the environment's overrides over its fixed tables, and check it all.

    Args:
        path: The TOML file; relative paths in it, and in the overrides, begin at its directory.
        environ: ``INTEGRATIOND_TABLE__KEY`` overrides a key of a fixed table; lists and tables
            are written as JSON.
        known: Connections that there are besides those of the file, for its routes to name; None
            where nobody knows now, so that routes may name any.

    Raises:
        RejectedConfigError: The file or a variable cannot be used; every problem is listed.
    """
    source = path.absolute()
    overrides = _overrides(environ)
    document = _merged(_parse(source, _read_text(source)), overrides)
    beyond_the_model = itertools.chain(
        _stray_variables(environ), _missing_connections(document, known)
    )
    try:
        settings = Settings.model_validate(document, context={BASE_DIR: source.parent})
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        found = (_problem(each["loc"], each["type"], each["msg"], overrides) for each in details)
        raise _rejected(source, itertools.chain(found, beyond_the_model)) from None
    first = next(beyond_the_model, None)
    if first:
        raise _rejected(source, itertools.chain([first], beyond_the_model))
    return settings


def load_addresses(path: Path, environ: Mapping[str, str]) -> FixedTables:
    """Read only what says where the daemon listens and keeps its key; the rest may be wrong.

    Args:
        path: As for :func:`load`.
        environ: As for :func:`load`.

    Raises:
        RejectedConfigError: The file is no TOML, or these tables cannot be used.
    """
    source = path.absolute()
    overrides = _overrides(environ)
    document = _merged(_parse(source, _read_text(source)), overrides)
    tables = {name: document[name] for name in ("api", "journal") if name in document}
    try:
        return FixedTables.model_validate(tables, context={BASE_DIR: source.parent})
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        found = (_problem(each["loc"], each["type"], each["msg"], overrides) for each in details)
        raise _rejected(source, found) from None


def _rejected(path: Path, problems: Iterator[Problem]) -> RejectedConfigError:
    """List the problems up to a limit, since each takes time and a file may hold a great many."""
    listed = list(itertools.islice(problems, PROBLEM_LIMIT))
    if next(problems, None):
        listed.append(Problem(str(path), "has more problems than these; mend these first"))
    return RejectedConfigError(str(path), listed)


def _read_text(path: Path) -> str:
    try:
        content, _ = read_regular_file(path, FILE_LIMIT_BYTES)
    except UnusableError as error:
        raise RejectedConfigError(str(path), [Problem(str(path), str(error))]) from None
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise _misread(path, "", 0, "begins with a byte order mark; save it as UTF-8 without BOM")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        reason = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        raise _misread(path, before, len(before), reason) from None
    unsafe = _UNSAFE_PATTERN.search(text)
    if unsafe:
        raise _misread(path, text, unsafe.start(), _unsafe_reason(unsafe[0]))
    deep = _DEEP_KEY_PATTERN.search(text)
    if deep:
        raise _misread(path, text, deep.start(), "a key has more than 32 parts")
    return text


def _unsafe_reason(character: str) -> str:
    match character:
        case "\0":
            return "a NUL character; the file is damaged or not a text file"
        case "\r":
            return "a carriage return without a line feed; save the file with LF line ends"
        case _:
            return f"U+{ord(character):04X} changes the direction of the text; remove it"


def _misread(path: Path, text: str, offset: int, reason: str) -> RejectedConfigError:
    before = text[:offset]
    line, column = before.count("\n") + 1, offset - before.rfind("\n")
    return RejectedConfigError(str(path), [Problem(f"line {line}, column {column}", reason)])


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = _syntax_problem(str(error), text)
    except RecursionError:
        problem = Problem(str(path), "lists or tables are nested too deeply")
    except ValueError:
        problem = Problem(str(path), "a number has too many digits")
    raise RejectedConfigError(str(path), [problem]) from None


def _syntax_problem(message: str, text: str) -> Problem:
    lines = text.split("\n")
    found = _POSITION_PATTERN.search(message)
    line, column = len(lines), len(lines[-1]) + 1
    if found and found[1]:
        line, column = int(found[1]), int(found[2])
    reason = _POSITION_PATTERN.sub("", message)
    shown = _showable(lines, line)
    return Problem(f"line {line}, column {column}", reason + (f": {shown}" if shown else ""))


def _showable(lines: Sequence[str], number: int) -> str:
    """Return as much of a line as cannot hold a secret: credentials stand in connections only."""
    line = lines[number - 1].strip()
    headers = (_HEADER_PATTERN.match(each) for each in reversed(lines[:number]))
    table = next((header[1] for header in headers if header), None)
    key = _KEY_PATTERN.match(line)
    if table not in FixedTables.model_fields and not _HEADER_PATTERN.match(line):
        line = f"{key[0]} …" if key else ""
    return "".join(each if each.isprintable() else "\ufffd" for each in line[:120])


class _Overridable(BaseSettings, FixedTables):
    """Tells pydantic-settings which variables there are; never built."""

    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX, env_nested_delimiter=_DELIMITER, extra="forbid"
    )


class _Environment(EnvSettingsSource):
    """The variables of a given environment, not of this process."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(_Overridable)
        self.env_vars = {name.lower(): value for name, value in variables.items()}

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """Leave what is not JSON as it is, for the model to refuse by its key."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def _overrides(environ: Mapping[str, str]) -> dict[str, Any]:
    names = (name for name in environ if _DELIMITER in name.removeprefix(VARIABLE_PREFIX))
    return _Environment(
        {name: environ[name] for name in names if name.startswith(VARIABLE_PREFIX)}
    )()


def _stray_variables(environ: Mapping[str, str]) -> Iterator[Problem]:
    for name in sorted(name for name in environ if name.startswith(VARIABLE_PREFIX)):
        table, delimiter, _ = name.removeprefix(VARIABLE_PREFIX).lower().partition(_DELIMITER)
        if not delimiter and table in FixedTables.model_fields:
            yield Problem(name, f"names a table; name a key of it: {name}{_DELIMITER}KEY")
        elif delimiter and table in Settings.model_fields.keys() - FixedTables.model_fields.keys():
            yield Problem(name, f"{table} are read from the file only")
        elif delimiter and table not in FixedTables.model_fields:
            yield Problem(name, _unknown(table, FixedTables.model_fields, "tables"))


def _merged(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(document)
    for key, value in overrides.items():
        below = merged.get(key, {})
        both_tables = isinstance(value, Mapping) and isinstance(below, Mapping)
        merged[key] = _merged(below, value) if both_tables else value
    return merged


def _missing_connections(
    document: Mapping[str, Any], known: Collection[str] | None
) -> Iterator[Problem]:
    """Check routes before validation, so that they are reported together with all the rest."""
    connections, routes = document.get("connections", {}), document.get("routes", {})
    if known is None:
        return
    if not isinstance(connections, Mapping) or not isinstance(routes, Mapping):
        return
    for operation, route in routes.items():
        if not isinstance(route, Mapping) or route.get("when_missing") == "hold":
            continue
        order = route.get("order")
        for at, name in enumerate(order if isinstance(order, list) else ()):
            if isinstance(name, str) and name not in connections and name not in known:
                reason = f"{name!r} {_unknown(name, connections, 'connections')}"
                where = key_path("routes", operation, "order", at)
                yield Problem(where, f'{reason}; or set when_missing = "hold" to keep calls')


def _problem(location: Location, kind: str, message: str, overrides: Mapping[str, Any]) -> Problem:
    where = location[:-1] if location[-1:] == ("[key]",) else location
    variable = _variable_of(where, overrides)
    reason = _reason(kind, message, where)
    return Problem(key_path(*where), f"{reason} (set by {variable})" if variable else reason)


def _reason(kind: str, message: str, where: Location) -> str:
    if kind == "extra_forbidden":
        if len(where) == 1 and where[0] in _PLANNED_TABLES:
            return NOT_AVAILABLE
        return _unknown(str(where[-1]), _keys_at(where[:-1]), "keys")
    plain = message.removeprefix("Value error, ").replace("Input should be", "must be")
    return _REASONS.get(kind, plain)


def _unknown(name: str, known: Collection[str], noun: str) -> str:
    candidates = list(itertools.islice(known, _CANDIDATES))
    near = difflib.get_close_matches(name[:80], candidates, n=1, cutoff=0.5)
    if near:
        return f"is unknown; did you mean {near[0]!r}?"
    return f"is unknown; the {noun} here are: {', '.join(map(key_path, candidates)) or 'none'}"


def _keys_at(where: Location) -> Collection[str]:
    table: Any = Settings
    for part in where:
        is_model = isinstance(table, type) and issubclass(table, pydantic.BaseModel)
        table = table.model_fields[part].annotation if is_model else get_args(table)[-1]
    return list(table.model_fields)


def _variable_of(where: Location, overrides: Mapping[str, Any]) -> str:
    """Return the variable that a value came from, or nothing where it came from the file."""
    value: Any = overrides
    names: list[str] = []
    for part in where:
        if not isinstance(value, Mapping) or part not in value:
            break
        value = value[part]
        names.append(str(part).upper())
    is_leaf = names and not isinstance(value, Mapping)
    return VARIABLE_PREFIX + _DELIMITER.join(names) if is_leaf else ""
