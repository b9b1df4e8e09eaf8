"""The composition root: builds the parts, starts them in order, drains them in reverse."""

from integrationd.supervisor.process import SWITCH_INTERVAL_S, run

__all__ = ["SWITCH_INTERVAL_S", "run"]
