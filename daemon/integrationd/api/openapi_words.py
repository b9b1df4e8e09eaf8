"""Docstrings of models as JSON Schema says it.

The first part tells of the model, ``Attributes:`` of its members.
"""

import inspect
import re
from collections.abc import Mapping
from typing import Any

_SECTION = re.compile(r"^(?:Attributes|Raises|Args):\n", re.MULTILINE)
_MEMBER = re.compile(r"^ {4}(\w+): ((?:.|\n {5,})*)", re.MULTILINE)


def in_words(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's schema with each member described where its docstring does so."""
    summary, members = _read(schema.get("description", ""))
    told = {**schema, "description": summary} if summary else dict(schema)
    if "properties" in schema:
        told["properties"] = {
            name: _described(member, members.get(name, ""))
            for name, member in schema["properties"].items()
        }
    return told


def _described(member: Mapping[str, Any], meaning: str) -> dict[str, Any]:
    words = " ".join(each for each in (meaning, member.get("description", "")) if each)
    return {**member, "description": words} if words else dict(member)


def _read(docstring: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into what it says of the model, and of each member."""
    text, _, section = inspect.cleandoc(docstring).partition("\nAttributes:\n")
    section = _SECTION.split(section)[0]
    members = {name: _plain(words) for name, words in _MEMBER.findall(section)}
    return _plain(_SECTION.split(text)[0]), members


def _plain(words: str) -> str:
    return " ".join(words.split())
