"""What can be said of a plugin file by reading it, without running it.

Everything found here is a warning: the file may load and serve all the same.
"""

import ast
from collections.abc import Collection, Iterator
from typing import NamedTuple

BLOCKING = frozenset(
    {
        "http.client.HTTPConnection",
        "http.client.HTTPSConnection",
        "input",
        "open",
        "os.popen",
        "os.system",
        "smtplib.SMTP",
        "smtplib.SMTP_SSL",
        "socket.create_connection",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "time.sleep",
        "urllib.request.urlopen",
        "urllib.request.urlretrieve",
    }
)
BLOCKING_LIBRARIES = ("requests", "urllib3", "subprocess")
BLOCKING_HTTP = frozenset(
    f"{library}.{name}"
    for library in ("httpx", "httpx2")
    for name in ("Client", "delete", "get", "head", "patch", "post", "put", "request", "stream")
)
BLOCKING_METHODS = frozenset({"read_bytes", "read_text", "write_bytes", "write_text"})

_SDK = "integrationd.sdk"
_NESTED = (ast.FunctionDef, ast.Lambda, ast.ClassDef)


class Remark(NamedTuple):
    """Something that is to be said of a plugin file.

    Attributes:
        line: The line, where there is one.
        reason: What is so.
    """

    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}" if self.line else self.reason


def remarks_on(source: bytes) -> list[Remark]:
    """Return what reading a plugin file gives cause to warn of, line by line.

    A file that cannot be parsed gives none: loading it says what is wrong.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    names = _imported(tree)
    found = [*_of_imports(tree), *_of_sources(tree), *_of_blocking(tree, names)]
    return sorted(set(found), key=lambda remark: remark.line or 0)


def lines_of_fields(source: bytes) -> dict[str, int]:
    """Return the line of every annotated name in a class, for messages about config fields."""
    classes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    return {
        member.target.id: member.lineno
        for node in classes
        for member in node.body
        if isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name)
    }


def line_that_sets(source: bytes, names: Collection[str]) -> int | None:
    """Return the first line that assigns to, or calls, one of the dotted names."""
    tree = ast.parse(source)
    imported = _imported(tree)
    return min((line for name, line in _uses(tree, imported) if name in names), default=None)


def _uses(tree: ast.Module, imported: dict[str, str]) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ctx=ast.Store() | ast.Del()):
                yield _name_of(node, imported), node.lineno
            case ast.Call(
                func=ast.Name(id="setattr"), args=[owner, ast.Constant(value=str(member)), _]
            ):
                yield f"{_name_of(owner, imported)}.{member}", node.lineno
            case ast.Call(func=function):
                yield _name_of(function, imported), node.lineno
            case _:
                continue


def _imported(tree: ast.Module) -> dict[str, str]:
    """Return what each imported name stands for: ``{"sleep": "time.sleep"}``."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                names[name] = alias.name if alias.asname else name
        elif isinstance(node, ast.ImportFrom):
            # A relative import keeps its dots: a module beside it may be called like any library.
            module = "." * node.level + (node.module or "")
            names.update({one.asname or one.name: f"{module}.{one.name}" for one in node.names})
    return names


def _of_imports(tree: ast.Module) -> Iterator[Remark]:
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0) if module == "integrationd":
                modules = [f"integrationd.{alias.name}" for alias in node.names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                continue
        for module in modules:
            if f"{module}.".startswith("integrationd.") and not f"{module}.".startswith(f"{_SDK}."):
                yield Remark(
                    node.lineno, f"imports {module}; plugins see {_SDK} and nothing else of it"
                )


def _of_sources(tree: ast.Module) -> Iterator[Remark]:
    """Ask for the document that a provider was written from."""
    if "Source:" in (ast.get_docstring(tree) or ""):
        return
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        if "Provider" in bases and "Source:" not in (ast.get_docstring(node) or ""):
            yield Remark(
                node.lineno,
                f"the docstring of {node.name} has no 'Source:' line; name the API document that"
                " it was written from: its title, its address and the day you read it",
            )


def _of_blocking(tree: ast.Module, names: dict[str, str]) -> Iterator[Remark]:
    for function in ast.walk(tree):
        if not isinstance(function, ast.AsyncFunctionDef):
            continue
        for called in _calls_in(function):
            name = _name_of(called.func, names)
            if _blocks(called.func, name):
                yield Remark(
                    called.lineno,
                    f"{name} in the async function {function.name} holds up the whole daemon;"
                    " use ctx.http, ctx.clock, or anyio.to_thread.run_sync",
                )


def _calls_in(function: ast.AsyncFunctionDef) -> Iterator[ast.Call]:
    """Yield the calls that the function itself makes, not those of functions inside it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (*_NESTED, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.Call):
            yield node
        waiting.extend(ast.iter_child_nodes(node))


def _name_of(function: ast.expr, names: dict[str, str]) -> str:
    """Return the dotted name of what is called, imports taken into account."""
    parts: list[str] = []
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return ".".join(["…", *reversed(parts)])
    return ".".join([names.get(function.id, function.id), *reversed(parts)])


def _blocks(function: ast.expr, name: str) -> bool:
    if name in BLOCKING or name in BLOCKING_HTTP:
        return True
    if name.partition(".")[0] in BLOCKING_LIBRARIES:
        return True
    return isinstance(function, ast.Attribute) and function.attr in BLOCKING_METHODS
