"""Write a new plugin and its test, which passes at once."""

import keyword
import sys
from collections.abc import Iterator
from pathlib import Path

from integrationd import sdk
from integrationd.cli.scaffold_recipes import RECIPES, Recipe
from integrationd.clock import Clock, to_datetime
from integrationd.sdk.provider import CODE_PATTERN

CATEGORIES = {
    "email": "email.send",
    "http": "http.request",
    "messaging": "sms.send",
    "push": "push.send",
    "sms": "sms.send",
    "whatsapp": "whatsapp.send",
}
"""What a plugin of each category begins with; those of messaging stand for all messages."""

_MESSAGES = ("email", "push", "sms", "whatsapp")
# The test imports these; a plugin of such a name beside it would be imported in their place.
_NEEDED_BY_THE_TEST = frozenset(
    {"anyio", "httpx2", "httpcore2", "integrationd", "msgspec", "pydantic", "pytest"}
)
_NAMES = (
    "Context",
    "Delivered",
    "HttpProviderConfig",
    "Outcome",
    "Provider",
    "Rejected",
    "SecretStr",
    "Uncertain",
    "classify",
    "operation",
)

_PLUGIN = '''\
"""@service@: @operation@."""

@imports@


class @service@(Provider):
    """Speak to @service@.

    Its address, paths and members are made up: put those of its API document in their place.

    Source: API reference, https://api.@host@.example/docs,
    read @today@.
    """

    code = "@code@"

    class Config(HttpProviderConfig):
        """What a connection to @service@ needs.

        Attributes:
            api_key: The secret that @service@ gave you.
        """

        base_url: str = "https://api.@host@.example"
        api_key: SecretStr

    @operation("@operation@", @marks@)
    async def @method@(self, request: @request@, ctx: Context) -> Outcome:
        """@does@"""
@body@@after@
    def _credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.config.api_key.get_secret_value()}"}
'''

_TEST = '''\
"""@service@ keeps the contract of @operation@."""

from pathlib import Path
from typing import ClassVar

import httpx2

from integrationd.sdk.testing import PluginContract


class Test@service@(PluginContract):
    """What every plugin has to show."""

    plugin = Path(__file__).with_name("@code@.py")
    config: ClassVar = {"api_key": "made-up-key"}
    operation = "@operation@"
    payload: ClassVar = @payload@

    @staticmethod
    def accepted(request: httpx2.Request) -> httpx2.Response:
        """Answer as the service does when it takes the request."""
        return httpx2.Response(
            200,
            json=@accepted@,
        )

    @staticmethod
    def refused(request: httpx2.Request) -> httpx2.Response:
        """Answer as the service does when it refuses the request for good."""
        return httpx2.Response(422, json={"error": "invalid request"})
'''


class UnfitError(ValueError):
    """There can be no such plugin; the message says why."""


def operation_of(category: str | None, operation: str | None) -> str:
    """Return the operation that a new plugin begins with.

    Raises:
        UnfitError: There is none of that name, or it is of another category.
    """
    if operation is None:
        return CATEGORIES[category or "messaging"]
    if operation not in RECIPES:
        raise UnfitError(f"the operation {operation!r} is not one of: {', '.join(RECIPES)}")
    kind = operation.partition(".")[0]
    if category not in (None, kind) and not (category == "messaging" and kind in _MESSAGES):
        raise UnfitError(f"{operation} is not an operation of the category {category}")
    return operation


def write(code: str, operation: str, directory: Path, clock: Clock) -> tuple[Path, Path]:
    """Write ``CODE.py`` and ``test_CODE.py`` and return their paths.

    Args:
        code: The provider's code.
        operation: The operation that it begins with.
        directory: Where; it is made if it does not exist.
        clock: Tells the day on which the document was read.

    Raises:
        UnfitError: The code is none, or would get in the way of its own test.
        FileExistsError: One of the files exists; nothing was written.
        OSError: They cannot be written.
    """
    _check_code(code)
    plugin, test = directory / f"{code}.py", directory / f"test_{code}.py"
    directory.mkdir(parents=True, exist_ok=True)
    with test.open("x") as file:
        file.write(test_text(code, operation))
    try:
        with plugin.open("x") as file:
            file.write(plugin_text(code, operation, to_datetime(clock.now_ms()).date().isoformat()))
    except OSError:
        test.unlink()
        raise
    return plugin, test


def plugin_text(code: str, operation: str, today: str) -> str:
    """Return the text of a new plugin."""
    recipe = RECIPES[operation]
    blanks = {
        "imports": "\n".join([*_imports(recipe), *_before(recipe)]),
        "body": recipe.body,
        "after": recipe.after,
        "marks": recipe.marks,
        "method": recipe.method,
        "request": recipe.request,
        "does": recipe.does,
        "operation": operation,
        "today": today,
        **_names(code),
    }
    return _filled(_PLUGIN, blanks)


def test_text(code: str, operation: str) -> str:
    """Return the text of its test."""
    recipe = RECIPES[operation]
    blanks = {"payload": recipe.payload, "accepted": recipe.accepted, "operation": operation}
    return _filled(_TEST, {**blanks, **_names(code)})


def _names(code: str) -> dict[str, str]:
    return {"code": code, "service": class_name(code), "host": code.replace("_", "-").strip("-")}


def class_name(code: str) -> str:
    """Return what the class of a provider is called: ``paper_plane`` becomes ``PaperPlane``."""
    name = "".join(word.capitalize() for word in code.split("_"))
    is_taken = name in sdk.__all__ or keyword.iskeyword(name)
    return f"{name}Provider" if is_taken else name


def _imports(recipe: Recipe) -> Iterator[str]:
    if recipe.imports:
        yield from (*recipe.imports, "")
    yield "from integrationd.sdk import ("
    names = {*_NAMES, *recipe.uses, recipe.request}
    # Classes before functions, as the linter sorts them.
    ordered = sorted(names, key=lambda name: (name.islower(), name))
    body = recipe.body + recipe.after
    yield from (f"    {name}," for name in ordered if name != "Uncertain" or name in body)
    yield ")"


def _before(recipe: Recipe) -> Iterator[str]:
    if recipe.before:
        yield f"\n\n{recipe.before.strip()}"


def _filled(text: str, blanks: dict[str, str]) -> str:
    for name, value in blanks.items():
        text = text.replace(f"@{name}@", value)
    return text


def _check_code(code: str) -> None:
    if not CODE_PATTERN.fullmatch(code):
        raise UnfitError(
            f"{code[:80]!r} is no provider code: use a-z, 0-9 and '_', begin with a letter, "
            "at most 40 characters"
        )
    if code.startswith("test_") or code == "conftest" or keyword.iskeyword(code):
        raise UnfitError(f"{code} would be taken for something else by pytest or Python")
    if code in sys.stdlib_module_names or code in _NEEDED_BY_THE_TEST:
        raise UnfitError(
            f"{code} is the name of a library that the plugin's test needs and would hide; "
            "choose another one"
        )
