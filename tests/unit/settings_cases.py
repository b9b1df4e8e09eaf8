"""What the tests of the configuration share."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from integrationd.settings import (
    RejectedConfigError,
    Settings,
    load,
)

SHIPPED = Path(__file__).parents[2] / "integrationd.toml"
CONNECTION = '[connections.a]\nprovider = "http"\n'


def written(directory: Path, content: str | bytes) -> Path:
    path = directory / "integrationd.toml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def loaded(directory: Path, content: str, environ: Mapping[str, str] | None = None) -> Settings:
    return load(written(directory, content), environ or {})


def problems_of(
    directory: Path, content: str | bytes, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    with pytest.raises(RejectedConfigError) as caught:
        load(written(directory, content), environ or {})
    return {problem.where: problem.reason for problem in caught.value.problems}
