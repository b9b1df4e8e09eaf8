"""The codes of problems, read from the source: where each is made, with its status and words."""

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from integrationd import errors

PACKAGE = Path(errors.__file__).parent
# What the API's routes call; the command line and what plugins raise answer nobody over HTTP.
_PARTS = ("api", "delivery", "journal", "settlement", "settings", "supervisor", "registry")
_JOURNAL = {"JournalFullError": 507, "JournalHighWaterError": 507, "DamagedError": 500}
_GAP = "…"


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Code:
    """One kind of problem.

    Attributes:
        status: The HTTP status.
        code: The machine word.
        says: What it says, with gaps where a detail stands.
    """

    status: int
    code: str
    says: str


def problem_codes() -> list[Code]:
    """Return all kinds of problems, each once."""
    found: dict[tuple[int, str], Code] = {}
    for code in (*_of_kinds(), *_told_with_words()):
        if code.code.isidentifier():
            found.setdefault((code.status, code.code), code)
    return sorted(found.values())


def _of_kinds() -> Iterator[Code]:
    """Yield what each class of errors says where it is raised without words of its own."""
    for name, kind in sorted(vars(errors).items()):
        if not isinstance(kind, type) or not issubclass(kind, errors.IntegrationdError):
            continue
        status = _status_of(kind)
        if status is not None:
            yield Code(status, kind.code, (kind.__doc__ or name).partition("\n")[0].rstrip("."))


def _status_of(kind: type) -> int | None:
    if issubclass(kind, errors.RequestError):
        return kind.status
    if issubclass(kind, errors.JournalError) and kind.__name__ not in (
        "JournalLockedError",
        "JournalVersionError",
        "LeaseLostError",
    ):
        return _JOURNAL.get(kind.__name__, 503)
    return None


def _told_with_words() -> Iterator[Code]:
    trees = [ast.parse(path.read_text()) for path in _sources()]
    kinds = _request_errors(trees)
    makers = _makers(trees)
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in kinds:
                yield from _of_class(node, kinds[node.name])
            elif isinstance(node, ast.Call):
                yield from _of_call(node, kinds, makers)


def _sources() -> list[Path]:
    return [path for part in _PARTS for path in sorted((PACKAGE / part).rglob("*.py"))]


def _request_errors(trees: list[ast.Module]) -> dict[str, int]:
    """Return the status of each class of errors that a caller is told of."""
    kinds = {
        name: kind.status
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, errors.RequestError)
    }
    for tree in trees:
        for node in ast.walk(tree):
            bases = [ast.unparse(base) for base in getattr(node, "bases", ())]
            inherited = [kinds[base] for base in bases if base in kinds]
            if isinstance(node, ast.ClassDef) and inherited:
                kinds[node.name] = _constant(node, "status") or inherited[0]
    return kinds


def _makers(trees: list[ast.Module]) -> dict[str, int]:
    """Return the functions that make a problem of a given code and words, with its status."""
    return {
        function.name: status
        for tree in trees
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef)
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and _name(call.func) == "problem" and len(call.args) > 2
        for status in [_literal(call.args[0])]
        if isinstance(status, int) and isinstance(call.args[1], ast.Name)
    }


def _of_class(node: ast.ClassDef, status: int) -> Iterator[Code]:
    code = _constant(node, "code")
    if code:
        yield Code(status, code, (ast.get_docstring(node) or "").partition("\n")[0].rstrip("."))


def _of_call(call: ast.Call, kinds: dict[str, int], makers: dict[str, int]) -> Iterator[Code]:
    name, words = _name(call.func), [_text(one) for one in call.args]
    named = {one.arg: _text(one.value) for one in call.keywords}
    code = named.get("code", "")
    if name in kinds and code and words:
        yield Code(kinds[name], code, words[0])
    elif name == "problem" and len(words) > 2 and words[1]:
        status = _literal(call.args[0])
        if isinstance(status, int):
            yield Code(status, words[1], words[2])
    elif name in makers and len(words) > 1 and words[0]:
        yield Code(makers[name], words[0], words[1])


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _constant(node: ast.ClassDef, name: str) -> Any:
    """Return what a class sets a name to; None where it does not."""
    for one in node.body:
        if isinstance(one, ast.Assign | ast.AnnAssign) and one.value is not None:
            targets = one.targets if isinstance(one, ast.Assign) else [one.target]
            if name in map(_name, targets):
                return _literal(one.value)
    return None


def _literal(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else None


def _text(node: ast.expr) -> str:
    """Return a text as it stands in the source, with a gap for each value that is put in."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(one) or _GAP for one in node.values)
    return ""
