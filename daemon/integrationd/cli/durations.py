"""Options that say for how long."""

import click


def seconds(text: str) -> float:
    """Read an option such as ``90d`` or ``12h``.

    Raises:
        click.BadParameter: It is no duration.
    """
    # Only who gives one waits for this.
    from integrationd.settings.units import parse_duration  # noqa: PLC0415 - takes longer

    try:
        return parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} {error}") from error
