"""What of a plugin's answer can be kept: text that is text, results that are JSON, no secrets.

Types are not enforced on plugins, and one wrong value must not stop the delivery of all calls.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, get_args

import msgspec

from integrationd.delivery.answers import Answer
from integrationd.masking import Masker
from integrationd.sdk import outcome as said

_Mend: TypeAlias = Callable[[Any, Masker], Any]

REASON_LIMIT = 100
_DETAIL_LIMIT = 10_000
# More than is kept, since masking must see whole what stands where it is cut off.
_LOOKED_AT = 40_000
_PART_OUTCOMES = get_args(said.PartOutcome)


def sound(answer: Answer, masker: Masker) -> Answer:
    """Return an answer in which everything can be kept and shown; what cannot takes its default.

    Args:
        answer: What a plugin came back with.
        masker: Masks what is said in it.
    """
    if isinstance(answer, said.Delivered) and not all(map(_is_part, answer.parts)):
        return said.Uncertain(
            reason="plugin_error", detail="The plugin returned parts that are no parts."
        )
    mended: Answer = _mended(answer, masker)
    return mended


def _mended(answer: Any, masker: Masker) -> Any:
    fields = {field.name for field in dataclasses.fields(answer)}
    changes = {
        name: mend(getattr(answer, name), masker) for name, mend in _MENDS.items() if name in fields
    }
    return dataclasses.replace(answer, **changes)


def _is_part(value: Any) -> bool:
    is_named = isinstance(value, said.Part) and isinstance(value.recipient, str)
    return is_named and isinstance(value.outcome, _PART_OUTCOMES)


def _text(value: Any) -> str:
    # Half of a surrogate pair can be in a str, but in no file.
    return value.encode(errors="replace").decode() if isinstance(value, str) else ""


def _reason(value: Any, masker: Masker) -> str:
    return masker.excerpt(_text(value)[:_LOOKED_AT], REASON_LIMIT) or "plugin_error"


def _detail(value: Any, masker: Masker) -> str:
    return masker.excerpt(_text(value)[:_LOOKED_AT], _DETAIL_LIMIT)


def _reference(value: Any, masker: Masker) -> str | None:
    return masker.without_values(_text(value)) or None


def _seconds(value: Any, _masker: Masker) -> float | None:
    return value if isinstance(value, int | float) else None


def _result(value: Any, masker: Masker) -> Any:
    try:
        msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError):
        return {}
    # A plugin may well return the record itself, and of what is none nothing can be kept.
    value = msgspec.to_builtins(value) if isinstance(value, msgspec.Struct) else value
    if not isinstance(value, Mapping):
        return {}
    return _without(masker, value) if masker.values else value


def _without(masker: Masker, value: Any) -> Any:
    """Return a result in which a provider that sends our own secrets back has not done so.

    Only they are replaced: a result may well have a ``client_secret``, which is the app's.
    """
    match value:
        case str():
            return masker.without_values(value)
        case Mapping():
            return {
                _without(masker, name): _without(masker, inner) for name, inner in value.items()
            }
        case list() | tuple():
            return [_without(masker, inner) for inner in value]
        case _:
            return value


def _parts(value: Any, masker: Masker) -> tuple[said.Part, ...]:
    return tuple(dataclasses.replace(part, outcome=_mended(part.outcome, masker)) for part in value)


_MENDS: Mapping[str, _Mend] = {
    "ask_after_s": _seconds,
    "detail": _detail,
    "parts": _parts,
    "proof": _detail,
    "reason": _reason,
    "reference": _reference,
    "result": _result,
    "wait_s": _seconds,
}
