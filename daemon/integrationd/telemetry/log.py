"""Logs: structured lines on standard error, made from facts on the bus."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, TypeAlias

import structlog

from integrationd.events import (
    AttemptEnded,
    BreakerMoved,
    Bus,
    CallChanged,
    CallDamaged,
    ConfigMoved,
    JournalMoved,
    LeaseLost,
    LinkMoved,
    LoopHeldUp,
    PluginMoved,
    WebhookReceived,
    WebhookRefused,
)
from integrationd.masking import Masker
from integrationd.personal import PersonalData

_LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_Fields: TypeAlias = MutableMapping[str, Any]
_log = structlog.get_logger("integrationd")
_TROUBLE = frozenset({"failed", "expired", "unknown"})


class LogOutput:
    """The daemon's log on standard error; its form and level may change while it runs.

    Args:
        form: ``console`` or ``json``.
        level: ``debug``, ``info``, ``warning`` or ``error``.
        masker: Masks every value before it is written.
        personal: Masks what tells who a person is, where that is asked for.
    """

    def __init__(
        self, form: str, level: str, masker: Masker, personal: PersonalData | None = None
    ) -> None:
        self._masker = masker
        self._personal = personal or PersonalData()
        self.use(form, level)
        structlog.configure(
            processors=[
                self._drop_what_is_below,
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                self._mask,
                self._render,
            ],
            # The level is looked at above, since loggers are kept and the level may change.
            wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
            logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=True,
        )
        # Libraries speak only when something is wrong.
        form = "%(name)s: %(message)s"
        logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format=form)

    def use(self, form: str, level: str) -> None:
        """Write in another form, or from another level on."""
        self._dropped = frozenset(name for name, at in _LEVELS.items() if at < _LEVELS[level])
        self._renderer: Any = structlog.processors.JSONRenderer()
        if form == "console":
            self._renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())

    def _drop_what_is_below(self, _logger: Any, method: str, fields: _Fields) -> _Fields:
        if method in self._dropped:
            raise structlog.DropEvent
        return fields

    def _mask(self, _logger: Any, _method: str, fields: _Fields) -> Mapping[str, Any]:
        masked: Mapping[str, Any] = self._masker.value(dict(fields))
        shown: Mapping[str, Any] = self._personal.value(masked)
        return shown

    def _render(self, logger: Any, method: str, fields: _Fields) -> Any:
        return self._renderer(logger, method, fields)


def log_facts(bus: Bus) -> None:
    """Turn facts on the bus into log lines."""
    bus.subscribe(AttemptEnded, _on_attempt)
    bus.subscribe(CallChanged, _on_change)
    bus.subscribe(BreakerMoved, _on_breaker)
    bus.subscribe(JournalMoved, _on_journal)
    bus.subscribe(LinkMoved, _on_link)
    bus.subscribe(LeaseLost, _on_lease_lost)
    bus.subscribe(CallDamaged, _on_damage)
    bus.subscribe(ConfigMoved, _on_config)
    bus.subscribe(PluginMoved, _on_plugin)
    bus.subscribe(LoopHeldUp, _on_held_up)
    bus.subscribe(WebhookReceived, _on_webhook)
    bus.subscribe(WebhookRefused, _on_webhook_refused)


def _on_attempt(event: AttemptEnded) -> None:
    attempt = event.attempt
    _log.debug(
        "attempt_ended",
        call=event.call.id,
        connection=attempt.connection,
        kind=attempt.kind.value,
        number=attempt.number,
        outcome=attempt.outcome,
        reason=attempt.reason,
        duration_ms=attempt.duration_ms,
    )


def _on_change(event: CallChanged) -> None:
    call = event.call
    tell = _log.warning if call.state.value in _TROUBLE else _log.debug
    tell(
        "call_changed",
        call=call.id,
        operation=call.operation,
        state=call.state.value,
        reason=call.reason,
        detail=call.detail,
        rule=event.rule,
    )


def _on_breaker(event: BreakerMoved) -> None:
    tell = _log.warning if event.after == "open" else _log.info
    tell("breaker_moved", connection=event.connection, before=event.before, after=event.after)


def _on_journal(event: JournalMoved) -> None:
    tell = _log.info if event.condition in ("ready", "closed") else _log.error
    if event.is_low:
        tell = _log.warning
    tell("journal_moved", condition=event.condition, reason=event.reason)


def _on_link(event: LinkMoved) -> None:
    if event.is_up:
        _log.info("link_up")
    else:
        _log.warning("link_down", why=event.why)


def _on_lease_lost(event: LeaseLost) -> None:
    _log.warning(
        "lease_lost",
        call=event.call_id,
        connection=event.connection,
        outcome=event.outcome,
        hint="Raise the connection's timeout above the provider's slowest reply.",
    )


def _on_damage(event: CallDamaged) -> None:
    _log.error("call_damaged", call=event.call_id)


def _on_config(event: ConfigMoved) -> None:
    if event.state == "applied":
        _log.info("config_applied", cause=event.cause, changes=list(event.told))
    else:
        _log.error(
            "config_rejected",
            cause=event.cause,
            problems=list(event.told),
            hint="The configuration from before goes on; mend the file.",
        )


def _on_plugin(event: PluginMoved) -> None:
    match event.state:
        case "loaded":
            _log.info("plugin_loaded", plugin=event.code, path=event.path, digest=event.told)
        case "gone":
            _log.info("plugin_gone", plugin=event.code, path=event.path)
        case _:
            _log.error("plugin_rejected", path=event.path, reason=event.told)


def _on_held_up(event: LoopHeldUp) -> None:
    _log.error(
        "event_loop_moves_again",
        plugin=event.plugin or None,
        at=f"{event.path}:{event.line}",
        stood_still_s=round(event.seconds, 1),
    )


def _on_webhook(event: WebhookReceived) -> None:
    _log.debug(
        "webhook_received",
        connection=event.connection,
        webhook=event.webhook_id,
        types=event.types,
    )


def _on_webhook_refused(event: WebhookRefused) -> None:
    _log.warning(
        "webhook_refused",
        connection=event.connection,
        source=event.source,
        reason=event.reason,
        detail=event.detail,
    )
