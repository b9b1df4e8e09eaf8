"""``[link]``: an address that can prove something, or a clear word of what is wrong with it."""

import pytest
from pydantic import ValidationError

from integrationd.settings import LinkSettings


@pytest.mark.parametrize(
    "probe", ["https://one.example", "http://one.example/generate_204", "http://192.0.2.1:8080/x?y"]
)
def test_probe_is_an_address(probe: str) -> None:
    assert LinkSettings(probe=probe).probe == probe


def test_link_is_watched_without_a_probe() -> None:
    assert LinkSettings().watch
    assert LinkSettings().probe is None
    assert LinkSettings(probe="").probe is None


@pytest.mark.parametrize(
    "probe",
    [
        *("one.example", "ftp://one.example", "https://", "https:///x", "http://one.example#x"),
        *("https://ann:secret@one.example", "https://one.example/a b", "https://one.example\n"),
    ],
)
def test_other_probes_are_refused(probe: str) -> None:
    with pytest.raises(ValidationError, match='must be "https://HOST"'):
        LinkSettings(probe=probe)
