"""The providers, their customers, and the books: what truly happened to whom.

One payment is one customer of his own, so that whoever pays twice is found out. Customers answer
prompts at once or leave them; they pay on pages a moment after these exist, or let them expire.
"""

import asyncio
import contextlib
import dataclasses
import random
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from starlette.types import Receive, Scope, Send
from tests.money.link import LinkBrokenError, Post, Weather, reachable
from tests.plugins import mpesa_callbacks as phones
from tests.plugins.mpesa_callbacks import prompt_body
from tests.plugins.mpesa_server import CREDENTIAL, INITIATOR, KEY, PASSKEY, SECRET, FakeDaraja
from tests.plugins.paystack_account import KEY as PAYSTACK_KEY
from tests.plugins.paystack_account import PAGES
from tests.plugins.paystack_server import FakePaystack
from tests.plugins.stripe_account import SECRET as SIGNING_SECRET
from tests.plugins.stripe_server import KEY as STRIPE_KEY
from tests.plugins.stripe_server import FakeStripe

# Of the dropped connections, the share that broke before the request had any effect.
BEFORE_THE_EFFECT = 0.3
PAYING = 0.8
THINKS_S = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """What the books say of one payment.

    Attributes:
        asked: How often the customer was asked for the money.
        paid: How often the customer paid.
        amount: What the customer paid in all.
        is_open: Whether the customer may still pay.
        told: Whether a callback about it has been answered with 200.
    """

    asked: int
    paid: int
    amount: Decimal
    is_open: bool
    told: bool


Arrived: TypeAlias = set[tuple[str, bytes]]


class Till(Protocol):
    """One provider and its customers.

    Attributes:
        connection: The connection's name.
        can_always_ask: Whether the daemon can ask about a payment whose answer was lost.
        is_visited: Whether customers pay at an address that the app has to show them. Where that
            is lost with the reply, nobody can pay, and the payment fails.
    """

    connection: str
    can_always_ask: bool
    is_visited: bool
    callbacks: "deque[Any]"

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        ...

    def table(self, url: str) -> str:
        """Return the connection's tables for the configuration."""
        ...

    def payload(self, number: int) -> dict[str, Any]:
        """Return what the app asks for."""
        ...

    def truth(self, number: int, arrived: Arrived) -> Truth:
        """Return what became of it, and whether word of it has arrived."""
        ...

    def act(self) -> None:
        """Let customers whose turn has come do what they do."""
        ...

    def visit(self, url: str) -> None:
        """Let a customer come to the address that the app shows."""
        ...


class Phones:
    """M-Pesa: prompts on phones. Nothing is signed, nothing can be sent twice."""

    connection = "phones"
    can_always_ask = False
    is_visited = False

    def __init__(self, dice: random.Random) -> None:
        self.fake = FakeDaraja()
        self.callbacks = self.fake.callbacks
        self._dice = dice
        self.fake.behaviour = _Customers(dice)
        self._by_phone: dict[str, list[phones.Prompt]] = {}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.fake.app(scope, receive, send)

    def table(self, url: str) -> str:
        """Return the connection's tables for the configuration."""
        return (
            f'[connections.phones]\nprovider = "mpesa"\nconcurrency = 24\n'
            f'[connections.phones.config]\nbase_url = "{url}"\nallow_private = true\n'
            f'consumer_key = "{KEY}"\nconsumer_secret = "{SECRET}"\n'
            f'shortcode = "{phones.SHORTCODE}"\npasskey = "{PASSKEY}"\n'
            f'initiator_name = "{INITIATOR}"\nsecurity_credential = "{CREDENTIAL}"\n'
        )

    def payload(self, number: int) -> dict[str, Any]:
        """Return what the app asks for."""
        return {
            "amount": f"{_amount(number)}.00",
            "currency": "KES",
            "customer": {"phone": f"+{self._phone(number)}"},
            "account": f"pupil{number}",
        }

    def truth(self, number: int, arrived: Arrived) -> Truth:
        """Return what became of it, and whether word of it has arrived."""
        phone = self._phone(number)
        return Truth(
            asked=self.fake.prompted[phone],
            paid=self.fake.effects[phone],
            amount=Decimal(self.fake.charged[phone]),
            is_open=False,
            told=any((one.callback, prompt_body(one)) in arrived for one in self._prompts(phone)),
        )

    def act(self) -> None:
        """Do nothing: customers answer prompts at once."""

    def visit(self, url: str) -> None:
        """Do nothing: there are no pages."""

    def _prompts(self, phone: str) -> list[phones.Prompt]:
        """Return the prompts of a phone; sorted out once, when all is over."""
        if sum(map(len, self._by_phone.values())) != len(self.fake.payments):
            self._by_phone.clear()
            for prompt in self.fake.payments.values():
                self._by_phone.setdefault(prompt.phone, []).append(prompt)
        return self._by_phone.get(phone, [])

    def _phone(self, number: int) -> str:
        return f"2547{number:08d}"


class _Customers(dict[str, str | None]):
    """Decides what each phone does when it is first asked."""

    def __init__(self, dice: random.Random) -> None:
        super().__init__()
        self._dice = dice

    def get(self, phone: str, default: Any = None) -> str | None:
        """Return what a phone does."""
        if phone not in self:
            fails = (phones.NO_FUNDS, phones.CANCELS, phones.UNREACHABLE)
            pays = self._dice.random() < PAYING
            self[phone] = phones.PAYS if pays else self._dice.choice(fails)
        return self[phone]


class Pages:
    """Stripe: payment pages, made once for each key; events are signed."""

    connection = "pages"
    can_always_ask = True
    is_visited = False

    def __init__(self, dice: random.Random, callback_url: str) -> None:
        self.fake = FakeStripe(webhook_url=callback_url)
        self.callbacks = self.fake.callbacks
        self._dice = dice
        self._seen = 0
        self._by_reference: dict[str, list[dict[str, Any]]] = {}
        self._undecided: list[str] = []

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.fake.app(scope, receive, send)

    def table(self, url: str) -> str:
        """Return the connection's tables for the configuration."""
        return (
            f'[connections.pages]\nprovider = "stripe"\nconcurrency = 24\n'
            f'[connections.pages.config]\nbase_url = "{url}"\nallow_private = true\n'
            f'secret_key = "{STRIPE_KEY}"\nwebhook_secret = "{SIGNING_SECRET}"\n'
            f'success_url = "https://shop.example/thanks"\n'
        )

    def payload(self, number: int) -> dict[str, Any]:
        """Return what the app asks for."""
        return {
            "amount": f"{_amount(number)}.00",
            "currency": "KES",
            "customer": {"email": f"c{number}@example.com"},
            "description": "School fees",
            "reference": self._reference(number),
        }

    def truth(self, number: int, arrived: Arrived) -> Truth:
        """Return what became of it, and whether word of it has arrived."""
        reference = self._reference(number)
        made = self._by_reference.get(reference, [])
        return Truth(
            asked=len(made),
            paid=self.fake.effects[reference],
            amount=Decimal(self.fake.charged[reference]) / 100,
            is_open=any(one["status"] == "open" for one in made),
            told=False,
        )

    def act(self) -> None:
        """Let customers pay on the pages that are new, or let these expire."""
        new = list(self.fake.payments.values())[self._seen :]
        self._seen += len(new)
        for made in new:
            if made["object"] != "checkout.session":
                continue
            self._by_reference.setdefault(made["client_reference_id"], []).append(made)
            if self._dice.random() < PAYING:
                self.fake.pay(made["id"])
            else:
                self.fake.change("POST", made, "expire", {})

    def visit(self, url: str) -> None:
        """Do nothing: customers come to pages as soon as these exist."""

    def _reference(self, number: int) -> str:
        return f"ticket-{number}"


class Links:
    """Paystack: a reference is taken once, and its page's address is told once."""

    connection = "links"
    can_always_ask = True
    is_visited = True

    def __init__(self, dice: random.Random, callback_url: str) -> None:
        self.fake = FakePaystack(webhook_url=callback_url)
        self.callbacks = self.fake.callbacks
        self._dice = dice
        self._visited: Counter[str] = Counter()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self.fake.app(scope, receive, send)

    def table(self, url: str) -> str:
        """Return the connection's tables for the configuration."""
        return (
            f'[connections.links]\nprovider = "paystack"\nconcurrency = 24\n'
            f'[connections.links.config]\nbase_url = "{url}"\nallow_private = true\n'
            f'secret_key = "{PAYSTACK_KEY}"\n'
        )

    def payload(self, number: int) -> dict[str, Any]:
        """Return what the app asks for."""
        return {
            "amount": f"{_amount(number)}.00",
            "currency": "NGN",
            "customer": {"email": self._email(number)},
            "reference": self._reference(number),
        }

    def truth(self, number: int, arrived: Arrived) -> Truth:
        """Return what became of it, and whether word of it has arrived."""
        reference = self._reference(number)
        payment = self.fake.payments.get(reference)
        is_open = payment is not None and payment["status"] not in ("success", "failed")
        return Truth(
            asked=int(payment is not None and self._visited[reference] > 0),
            paid=self.fake.effects["charge", reference],
            amount=Decimal(self.fake.charged[self._email(number)]) / 100,
            is_open=is_open and self._visited[reference] > 0,
            told=False,
        )

    def act(self) -> None:
        """Do nothing: customers come when the app sends them."""

    def visit(self, url: str) -> None:
        """Let a customer pay, or have no money."""
        code = url.removeprefix(PAGES)
        payment = next(one for one in self.fake.payments.values() if one["access_code"] == code)
        reference = payment["reference"]
        self._visited[reference] += 1
        if payment["status"] in ("success", "failed"):
            return
        if self._dice.random() < PAYING:
            self.fake.pay(url)
        else:
            self.fake.end_payment(reference, "failed")

    def _reference(self, number: int) -> str:
        return f"seat-{number}"

    def _email(self, number: int) -> str:
        return f"c{number}@example.com"


class Market:
    """All providers behind the bad link.

    Args:
        tills: The providers.
        weather: How bad the link is.
        dice: Randomness.
    """

    def __init__(self, tills: list[Till], weather: Weather, dice: random.Random) -> None:
        self.tills = tills
        self.post = Post(weather, dice)
        self.dropped = 0
        self._weather = weather
        self._dice = dice

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[dict[str, str]]:
        """Serve all providers; yields the address of each, by its connection."""
        async with contextlib.AsyncExitStack() as stack:
            urls = {}
            for till in self.tills:
                server = await stack.enter_async_context(reachable(self._behind_the_link(till)))
                urls[till.connection] = server.url
            customers = asyncio.create_task(self._customers())
            try:
                yield urls
            finally:
                customers.cancel()
                await asyncio.gather(customers, return_exceptions=True)
                await self.post.aclose()

    def _behind_the_link(self, till: Till) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(self._dice.uniform(0, self._weather.slow_s))
            dropped = self._dice.random() < self._weather.dropped
            if dropped and self._dice.random() < BEFORE_THE_EFFECT:
                self.dropped += 1
                raise LinkBrokenError
            await till.app(scope, receive, send)
            await self.post.send_all(till.callbacks)
            if dropped:
                self.dropped += 1
                raise LinkBrokenError

        return answer

    async def _customers(self) -> None:
        while True:
            for till in self.tills:
                till.act()
                await self.post.send_all(till.callbacks)
            await asyncio.sleep(THINKS_S)


def _amount(number: int) -> int:
    return 10 + number % 4_990
