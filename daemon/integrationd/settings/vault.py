"""``[vault]``: where the master key is that opens the vault."""

import re
from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, ValidationInfo

from integrationd.settings.table import BASE_DIR, Table

SECRET_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_MASTER_PATTERN = re.compile(r"(file|env|credential):([^\0]{1,4096})")
_NAME_PATTERNS = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "credential": re.compile(r"(?!\.{1,2}$)[^/]+"),
}


def _master_reference(text: str, info: ValidationInfo) -> str:
    found = _MASTER_PATTERN.fullmatch(text)
    if found is None:
        # A key that stands here itself is never repeated.
        raise ValueError(
            "must say where the master key is: file:PATH, env:NAME or credential:NAME; the key "
            "itself never stands in the configuration"
        )
    kind, name = found.groups()
    if kind != "file":
        if not _NAME_PATTERNS[kind].fullmatch(name):
            raise ValueError(f"what follows '{kind}:' is not a name")
        return text
    if name.startswith("~"):
        raise ValueError("must be written out: '~' is not expanded")
    base_dir: Path | None = (info.context or {}).get(BASE_DIR)
    return f"file:{base_dir / name}" if base_dir else text


MasterReference: TypeAlias = Annotated[str, AfterValidator(_master_reference)]


class VaultSettings(Table):
    """``[vault]``: where the master key is, and where the one before it is during a change."""

    master_key: MasterReference | None = None
    previous_master_key: MasterReference | None = None
