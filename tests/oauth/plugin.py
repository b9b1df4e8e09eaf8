"""A provider behind OAuth, for the tests.

Source: none; it is made up.
"""

from typing import Literal

from integrationd.sdk import (
    Context,
    Delivered,
    HttpProviderConfig,
    OAuth,
    Outcome,
    Provider,
    SecretStr,
    SmsSend,
    Uncertain,
    classify,
    operation,
)


class Guarded(Provider):
    """Messages behind a token."""

    code = "guarded"

    class Config(HttpProviderConfig):
        """What a test may vary."""

        client_id: str = "shop & co"
        client_secret: SecretStr = SecretStr("s3cret+of the:shop")
        grant: Literal["client_credentials", "authorization_code"] = "client_credentials"
        rotation: Literal["none", "overlap", "strict"] = "strict"
        authentication: Literal["client_secret_basic", "client_secret_post", "none"] = (
            "client_secret_basic"
        )
        issuer: str = ""
        scope: str = "messages"
        revokes: bool = True

    config: Config

    def oauth(self) -> OAuth:
        """Return what the tests' server is like."""
        return OAuth(
            token_endpoint="/oauth/token",
            authorization_endpoint=f"{self.config.base_url}/oauth/authorize",
            revocation_endpoint="/oauth/revoke" if self.config.revokes else "",
            client_id=self.config.client_id,
            client_secret=self.config.client_secret,
            grant=self.config.grant,
            authentication=self.config.authentication,
            issuer=self.config.issuer,
            scopes=self.config.scope.split(),
            authorization_parameters={"prompt": "consent"},
            rotation=self.config.rotation,
        )

    @operation("sms.send", repeat_safe=True)
    async def send(self, request: SmsSend, ctx: Context) -> Outcome:
        """Send a message under a token."""
        response = await ctx.authorised(
            lambda bearer: ctx.http.post(
                "/v1/messages",
                json={"to": request.to, "text": request.message},
                headers={"Authorization": bearer, "Idempotency-Key": ctx.idempotency_key},
            )
        )
        outcome = classify.of_status(response, ctx.clock.now_ms())
        if outcome is not None:
            return outcome
        try:
            message_id = str(response.json()["id"])
        except (ValueError, KeyError, TypeError):
            return Uncertain(reason="unreadable_reply")
        return Delivered(reference=message_id, result={"message_id": message_id})
