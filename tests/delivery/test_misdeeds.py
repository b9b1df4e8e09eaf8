"""Plugins that misbehave while calls flow: each harms its own calls only."""

from pathlib import Path

import pytest
from tests.delivery.live_world import DESK_ONE, Live, LiveWorld, lived

NASTY = '''
import asyncio
import anyio
from integrationd.sdk import *


class Note(Request, frozen=True):
    """What to send."""

    takes_s: float = 0.0


class Sent(Result, frozen=True):
    """What was sent."""


def rule(provider, request):
    RULE


class Nasty(Provider):
    code = "nasty"

    async def aclose(self):
        raise SystemExit(9)

    @operation(
        "nasty.send",
        repeat_safe=rule,
        contract=Contract(operation="nasty.send", request=Note, result=Sent),
    )
    async def send(self, request, ctx):
        SEND
'''
MISDEEDS = {
    "exits": ("return False", "raise SystemExit(3)"),
    "interrupts": ("return False", "raise KeyboardInterrupt"),
    "base": ("return False", "raise type('Odd', (BaseException,), {})()"),
    "cancelled": ("return False", "raise asyncio.CancelledError"),
    "cancels_itself": ("return False", "asyncio.current_task().cancel(); await anyio.sleep(1)"),
    "awaits_a_cancelled_task": (
        "return False",
        "task = asyncio.ensure_future(anyio.sleep(9)); task.cancel(); await task",
    ),
    "generator_exit": ("return False", "raise GeneratorExit"),
    "stop_iteration": ("return False", "raise StopIteration"),
    "recursion": ("return False", "return await self.send(request, ctx)"),
    "group": ("return False", "raise BaseExceptionGroup('g', [SystemExit(1)])"),
    "rule_raises": ("raise KeyError('x')", "return Delivered()"),
    "rule_exits": ("raise SystemExit(3)", "return Delivered()"),
    "none": ("return False", "return None"),
    "class": ("return False", "return Delivered"),
    "coroutine": ("return False", "return anyio.sleep"),
    "cyclic": ("return False", "a = {}; a['a'] = a; return Delivered(result=a)"),
    "unencodable": ("return False", "return Delivered(result={'a': object()})"),
    "surrogate": ("return False", "return Delivered(reference=chr(0xdc80))"),
    "nul": ("return False", "return Delivered(reference='a' + chr(0) + 'b')"),
    "not_text": ("return False", "return Delivered(reference=17)"),
    "reason_not_text": ("return False", "return Rejected(reason=17, detail=object())"),
    "detail_surrogate": ("return False", "return Rejected(reason='x', detail=chr(0xdc80))"),
    "negative_wait": ("return False", "return Throttled(wait_s=-5)"),
    "nan_wait": ("return False", "return Throttled(wait_s=float('nan'))"),
    "endless_wait": ("return False", "return Throttled(wait_s=float('inf'))"),
    "giant": ("return False", "return Rejected(reason='x' * 10_000_000)"),
    "parts": ("return False", "return Delivered(parts=[None, 3])"),
}


@pytest.fixture
def live(tmp_path: Path) -> Live:
    return lived(tmp_path)


@pytest.mark.parametrize("name", MISDEEDS)
def test_misbehaving_plugin_harms_its_own_calls_only(live: Live, name: str) -> None:
    rule, send = MISDEEDS[name]

    async def story(world: LiveWorld) -> None:
        world.load(NASTY.replace("RULE", rule).replace("SEND", send), "nasty.py")
        await world.use({"nasty": {"provider": "nasty"}, **DESK_ONE})
        theirs = await world.submit(2, operation="nasty.send")
        ours = await world.submit(2, takes_s=1)
        await world.pass_s(20)
        ours += await world.submit(2)
        await world.finish(ours)

        assert await world.states(ours) == {"completed"}
        assert "processing" not in await world.states(theirs)
        await world.use(DESK_ONE)
        await world.pass_s(1)

    live(story)
