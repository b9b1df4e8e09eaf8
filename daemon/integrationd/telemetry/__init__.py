"""Telemetry: facts from the bus become log lines and metrics; nothing else logs or counts."""

from integrationd.telemetry.log import LogOutput, log_facts
from integrationd.telemetry.metrics import Metrics

__all__ = ["LogOutput", "Metrics", "log_facts"]
