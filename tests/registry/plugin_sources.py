"""Plugin files that the tests of the registry write."""

from pathlib import Path

HEAD = "from integrationd.sdk import *\n"


def paper(colour: str = "white", *, code: str = "paper", more: str = "") -> str:
    """Return a plugin whose class says its ``colour``; ``more`` is added to its methods."""
    return f"""{HEAD}

class Paper(Provider):
    code = "{code}"
    colour = "{colour}"
    closed = 0

    class Config(ProviderConfig):
        size: str = "A4"

    async def aclose(self):
        type(self).closed += 1

    @operation("sms.send", repeat_safe=False)
    async def send(self, request, ctx):
        return Delivered()
{more}"""


def write(path: Path, source: str | bytes) -> Path:
    """Put a file in its place in one step, as careful editors do."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(source.encode() if isinstance(source, str) else source)
    return beside.replace(path)
