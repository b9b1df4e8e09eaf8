"""Where the users' paths are: below one address, each beside the one of ``/v1`` that it is."""

PREFIX = "/api/v1/integrations/"
OURS = "/v1/"


def of_ours(path: str) -> str:
    """Return the users' address of a path of ``/v1``."""
    return PREFIX + path.removeprefix(OURS)


def to_ours(path: str) -> str:
    """Return the path of ``/v1`` that an address of the users' would be; others stay."""
    return OURS + path.removeprefix(PREFIX) if path.startswith(PREFIX) else path
