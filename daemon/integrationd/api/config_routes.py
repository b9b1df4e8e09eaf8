"""Routes of the configuration: how it stands, what a reload would do, and the reload."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from integrationd.api.parts import Parts
from integrationd.api.ports import ReloadReport
from integrationd.api.problems import Problem, problem
from integrationd.api.replies import json_reply, problem_reply
from integrationd.api.roles import Role
from integrationd.api.status_views import ConfigView
from integrationd.api.tenancy import caller_of, refuse_one_tenant
from integrationd.api.told import Table, Told


class ConfigRoutes:
    """The routes below ``/v1/config``."""

    def __init__(self, parts: Parts) -> None:
        self._configuration = parts.configuration

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/config", self.show),
            Route("/v1/config/diff", self.diff),
            Route("/v1/config/reload", self.reload, methods=["POST"]),
        ]

    async def show(self, request: Request) -> Response:
        """Show which configuration is in force."""
        _refuse_one_tenant(request)
        return json_reply(ConfigView.of(self._configuration.status())).as_response()

    async def diff(self, request: Request) -> Response:
        """Show what a reload would do."""
        _refuse_one_tenant(request)
        return json_reply(await self._configuration.preview()).as_response()

    async def reload(self, request: Request) -> Response:
        """Reload; a configuration that is refused changes nothing."""
        _refuse_one_tenant(request)
        by = caller_of(request).by
        report = await self._configuration.reload(f"asked by {by}", by=by)
        if report.outcome != "rejected":
            return json_reply(report).as_response()
        return problem_reply(_refusal(report)).as_response()


def _refuse_one_tenant(request: Request) -> None:
    refuse_one_tenant(caller_of(request), "the configuration")


def _refusal(report: ReloadReport) -> Problem:
    told = "; ".join(f"{one.where}: {one.reason}" for one in report.problems)
    return problem(
        409,
        "config_rejected",
        f"the configuration was refused and the one from before goes on: {told}",
        hint="Mend it and reload again, or see 'integrationd config check'.",
        problems=report.problems,
    )


TOLD: Table = {
    ("get", "/v1/config"): Told(
        summary="Show which configuration is in force.", gives={200: ConfigView}, role=Role.READ
    ),
    ("get", "/v1/config/diff"): Told(
        summary="Show what a reload would do.", gives={200: ReloadReport}, role=Role.READ
    ),
    ("post", "/v1/config/reload"): Told(
        summary="Reload; what is refused changes nothing.",
        gives={200: ReloadReport},
        role=Role.ADMIN,
    ),
}
