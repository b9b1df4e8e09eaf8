"""Canaries: secrets that are known again wherever they turn up, however they are encoded.

Every canary begins and ends alike, and both ends are looked for in every encoding, so that two
thousand cost no more than one and a secret of which a mask has left either end is found as well.
"""

import base64
import dataclasses
import itertools
import json
import random
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote

HEAD, TAIL = "cQ7zkWx9Vb", "hY4jRv8Tn2"
# What encoders change stands in the middle.
MARKS = "+/=&%<>'\" ?#;,"
SHOWN = 60


def canary(name: str, rng: random.Random, marks: str = MARKS) -> str:
    """Return a new canary; its name says where it was put in."""
    middle = [*rng.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=8), *marks]
    rng.shuffle(middle)
    return f"{HEAD}{name}.{''.join(middle).strip()}{TAIL}"


def encoded(secret: str) -> dict[str, bytes]:
    """Return a text in every encoding in which it may be told, by the encoding's name."""
    raw = secret.encode()
    percent = "".join(f"%{byte:02x}" for byte in raw)
    escaped = "".join(f"\\u{ord(char):04x}" for char in secret)
    coded = {
        "raw": secret,
        **{f"base64 +{at}": base64.b64encode(b"~" * at + raw).decode() for at in range(3)},
        "base64 urlsafe": base64.urlsafe_b64encode(raw).decode(),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "quoted": quote(secret),
        "percent": percent,
        "PERCENT": percent.upper(),
        "json": json.dumps(secret)[1:-1],
        "escaped": escaped,
        "ESCAPED": escaped.upper().replace("\\U", "\\u"),
        "html": "".join(f"&#{ord(char)};" for char in secret),
        "html hex": "".join(f"&#x{ord(char):x};" for char in secret),
        "HTML HEX": "".join(f"&#X{ord(char):X};" for char in secret),
    }
    wide = {"utf-16le": secret.encode("utf-16-le"), "utf-16be": secret.encode("utf-16-be")}
    return {**{name: text.encode() for name, text in coded.items()}, **wide}


def _needles() -> Iterator[tuple[str, bytes]]:
    for end in (HEAD, TAIL):
        for name, form in encoded(end).items():
            if name.startswith("base64"):
                continue
            yield name, form
            # Escaped once more, as in JSON within JSON.
            if b"\\" in form:
                yield name, form.replace(b"\\", b"\\\\")
        for at in range(3):
            core = base64.b64encode(b"~" * at + end.encode())
            yield f"base64 +{at}", core[-(-at * 8 // 6) : (at + len(end)) * 8 // 6]


NEEDLES = tuple(dict.fromkeys(_needles()))


@dataclasses.dataclass(frozen=True)
class Leak:
    """A secret that was found.

    Attributes:
        place: Where.
        encoding: In which encoding.
        around: What stands there.
    """

    place: str
    encoding: str
    around: bytes


def leaks(places: Mapping[str, bytes], also: Iterable[str] = ()) -> list[Leak]:
    """Return every canary that stands anywhere, and every other secret that is named.

    Args:
        places: What is looked through.
        also: Secrets that are no canaries, such as keys that the daemon has made.
    """
    others = [(name, form) for one in also for name, form in encoded(one).items()]
    return [
        Leak(place, name, content[max(0, at - SHOWN) : at + SHOWN])
        for (place, content), (name, needle) in itertools.product(
            places.items(), [*NEEDLES, *others]
        )
        if (at := content.find(needle)) >= 0
    ]
