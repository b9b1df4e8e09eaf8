"""Routes of everything else: ledger, status, attempts, health, metrics."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd import __version__
from integrationd.api.connection_view import connection_view
from integrationd.api.directory_views import ConnectionView
from integrationd.api.paging import page_of, read_page
from integrationd.api.parts import Parts
from integrationd.api.ports import ConfigStatus
from integrationd.api.problems import problem
from integrationd.api.replies import json_reply, problem_reply
from integrationd.api.roles import Role
from integrationd.api.schemas import AttemptView
from integrationd.api.status_views import (
    ConfigView,
    JournalView,
    LedgerView,
    LinkView,
    StatusView,
)
from integrationd.api.tenancy import caller_of, may_see, refuse_one_tenant, tenant_filter
from integrationd.api.told import PAGE, Page, Table, Told
from integrationd.clock import to_rfc3339
from integrationd.errors import JournalError, NotFoundError
from integrationd.journal import AttemptFilter, Condition, LedgerLine

ATTEMPT_FILTERS = ("call_id", "connection", "outcome", "tenant")


class ResourceRoutes:
    """The routes besides calls."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        """Return the routes that ask who is calling."""
        return [
            Route("/v1/ledger", self.ledger),
            Route("/v1/status", self.status),
            Route("/v1/journal/acknowledge", self.acknowledge, methods=["POST"]),
            Route("/v1/attempts", self.attempts),
            Route("/v1/attempts/{number}", self.attempt),
            Route("/metrics", self.metrics),
        ]

    def open_routes(self) -> list[Route]:
        """Return the routes for machines that only look whether the daemon lives."""
        return [Route("/healthz", self.healthz), Route("/readyz", self.readyz)]

    async def ledger(self, request: Request) -> Response:
        """Show the balance."""
        within = caller_of(request).tenant
        lines = await self._parts.journal.ledger.lines(within)
        total = _total(lines, within)
        balances = all(line.balances for line in lines)
        view = LedgerView(items=lines, total=total, balances=balances)
        return json_reply(view).as_response()

    async def status(self, request: Request) -> Response:
        """Show what a person looks at first; answers also while the journal is not ready."""
        caller, journal = caller_of(request), self._parts.journal.status()
        lines, oldest_ms, counts = await self._figures(caller.tenant)
        problems = _problems(journal.condition, journal.reason, journal.alarm, lines, counts)
        configuration = self._parts.configuration.status()
        link = LinkView.of(self._parts.lines.link_status(), is_told_why=caller.tenant is None)
        problems += _link_problems(link)
        if caller.tenant is None:
            problems += self._common_problems(configuration)
        else:
            # What is wrong with the configuration may name what is another tenant's.
            configuration = msgspec.structs.replace(configuration, problems=(), warnings=())
        connections = [
            connection_view(self._parts, one, lines)
            for one in self._parts.directory.connections().values()
            if may_see(caller, one.tenant)
        ]
        problems += _connection_problems(connections)
        ready = journal.condition is Condition.READY
        view = StatusView(
            status="degraded" if not ready else "attention" if problems else "ok",
            version=__version__,
            started_at=to_rfc3339(self._parts.started_at_ms),
            problems=problems,
            journal=JournalView.of(journal),
            link=link,
            config=ConfigView.of(configuration),
            ledger=_total(lines, caller.tenant),
            oldest_pending_at=to_rfc3339(oldest_ms) if oldest_ms is not None else None,
            connections=connections,
        )
        return json_reply(view).as_response()

    def _common_problems(self, configuration: ConfigStatus) -> list[str]:
        """Return what is wrong with what all tenants share."""
        return [
            *_config_problems(configuration),
            *(f"Plugin {fault}" for fault in self._parts.registry.faults),
            *self._parts.held_keys.problems(),
        ]

    async def _figures(
        self, within: str | None
    ) -> tuple[list[LedgerLine], int | None, dict[str, int]]:
        ledger = self._parts.journal.ledger
        try:
            lines = await ledger.lines(within)
            return lines, await ledger.oldest_pending_ms(within), await ledger.attention(within)
        except JournalError:
            return [], None, {}

    async def acknowledge(self, request: Request) -> Response:
        """Take note of lost commits."""
        caller = caller_of(request)
        refuse_one_tenant(caller, "the journal")
        was = await self._parts.journal.acknowledge_alarm(caller.by)
        return json_reply({"acknowledged": was}).as_response()

    async def attempts(self, request: Request) -> Response:
        """List exchanges, the latest first."""
        page = read_page(request.query_params, ATTEMPT_FILTERS)
        tenant = tenant_filter(caller_of(request), page.filters.get("tenant"))
        wanted = AttemptFilter(**{**page.filters, "tenant": tenant})
        found = await self._parts.journal.attempts.list(
            wanted, before=page.before, limit=page.limit
        )
        items = [AttemptView.of(one) for one in found]
        return json_reply(page_of(items, [one.seq for one in found], page)).as_response()

    async def attempt(self, request: Request) -> Response:
        """Show one exchange."""
        number = request.path_params["number"]
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise NotFoundError(f"there is no attempt {number[:40]!r}", code="no_such_attempt")
        found = await self._parts.journal.attempts.get(int(number), caller_of(request).tenant)
        return json_reply(AttemptView.of(found)).as_response()

    async def healthz(self, _request: Request) -> Response:
        """Say that the daemon lives."""
        return json_reply({"status": "ok"}).as_response()

    async def readyz(self, _request: Request) -> Response:
        """Say whether new calls are accepted."""
        journal = self._parts.journal.status()
        if journal.condition is Condition.READY:
            return json_reply({"status": "ready"}).as_response()
        told = problem(503, "not_ready", f"The journal is {journal.condition}: {journal.reason}")
        return problem_reply(told).as_response()

    async def metrics(self, request: Request) -> Response:
        """Tell Prometheus; who is of one tenant is told of that one only."""
        within = caller_of(request).tenant
        lines, oldest_ms, _counts = await self._figures(within)
        age_ms = None if oldest_ms is None else self._parts.clock.now_ms() - oldest_ms
        breakers = {
            one.name: self._parts.lines.line_status(one.name).breaker
            for one in self._parts.registry.connections()
        }
        journal = self._parts.journal.status()
        self._parts.metrics.note_room(journal.free_bytes, journal.level)
        body, kind = self._parts.metrics.render(lines_of(lines), age_ms, breakers, within)
        return Response(body, media_type=kind)


def lines_of(lines: list[LedgerLine]) -> dict[tuple[str, str], dict[str, int]]:
    """Return the depth by state, per tenant and connection."""
    states = ("pending", "processing", "waiting", "unknown")
    return {
        (line.tenant, line.connection or ""): {state: getattr(line, state) for state in states}
        for line in lines
    }


def _total(lines: list[LedgerLine], within: str | None = None) -> LedgerLine:
    names = LedgerLine.__struct_fields__[2:]
    sums: list[Any] = [sum(getattr(line, name) for line in lines) for name in names]
    return LedgerLine(within or "*", None, *sums)


def _connection_problems(connections: list[ConnectionView]) -> list[str]:
    consents = [one for one in connections if one.authorised is False]
    open_ones = [one for one in connections if one.breaker == "open"]
    return [
        *(f"Connection {one.id}: {one.problem}." for one in consents),
        *(
            f"Connection {one.id}: its breaker is open until {one.breaker_until}."
            for one in open_ones
        ),
    ]


def _link_problems(link: LinkView) -> list[str]:
    if link.state == "up":
        return []
    since = f" since {link.since}" if link.since else ""
    told = f"This machine's own link has been down{since}; calls wait for it. {link.why}"
    return [told.strip()]


def _config_problems(status: ConfigStatus) -> list[str]:
    found = [f"{one.where}: {one.reason}." for one in status.warnings]
    if status.state == "rejected":
        told = "; ".join(f"{one.where}: {one.reason}" for one in status.problems)
        found.insert(
            0, f"{status.file} was refused, and the configuration from before goes on: {told}."
        )
    return found


def _problems(
    condition: Condition, reason: str, alarm: str, lines: list[LedgerLine], counts: dict[str, int]
) -> list[str]:
    total = _total(lines)
    found = []
    if condition is not Condition.READY:
        found.append(f"The journal is {condition}: {reason}")
    elif reason:
        found.append(reason)
    if alarm:
        found.append(f"{alarm.strip()} Acknowledge with 'integrationd status --acknowledge'.")
    if not all(line.balances for line in lines):
        found.append("The ledger does not balance. Run 'integrationd verify'.")
    if total.unknown:
        found.append(
            f"{total.unknown} calls are of unknown outcome: integrationd calls --state unknown"
        )
    if counts.get("damaged"):
        found.append(f"{counts['damaged']} stored calls are damaged. Run 'integrationd verify'.")
    if counts.get("contradicted"):
        found.append(f"Evidence speaks against the state of {counts['contradicted']} calls.")
    return found


class Health(msgspec.Struct, frozen=True):
    """That the daemon lives, or takes calls."""

    status: str


class Acknowledged(msgspec.Struct, frozen=True):
    """What was taken note of."""

    acknowledged: bool


TOLD: Table = {
    ("get", "/healthz"): Told(
        summary="Say that the daemon lives.", gives={200: Health}, is_open=True
    ),
    ("get", "/readyz"): Told(
        summary="Say whether new calls are accepted.",
        gives={200: Health},
        problems=(503,),
        is_open=True,
    ),
    ("get", "/metrics"): Told(summary="Tell Prometheus.", gives={200: str}, role=Role.READ),
    ("get", "/v1/status"): Told(
        summary="Show what a person looks at first.", gives={200: StatusView}, role=Role.READ
    ),
    ("get", "/v1/ledger"): Told(
        summary="Show the balance.", gives={200: LedgerView}, role=Role.READ
    ),
    ("post", "/v1/journal/acknowledge"): Told(
        summary="Take note of lost commits.", gives={200: Acknowledged}, role=Role.ADMIN
    ),
    ("get", "/v1/attempts"): Told(
        summary="List exchanges, the latest first.",
        gives={200: Page[AttemptView]},
        query=(*PAGE, *ATTEMPT_FILTERS),
        personal="all",
        role=Role.READ,
    ),
    ("get", "/v1/attempts/{number}"): Told(
        summary="Show one exchange.", gives={200: AttemptView}, personal="all", role=Role.READ
    ),
}
