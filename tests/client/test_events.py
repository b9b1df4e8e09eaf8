"""Events by the client: published once, read from a number, followed over every cut."""

import itertools
import threading
import time
from typing import Any

import pytest
from tests.client.conftest import Door
from tests.client.cutting import Cutter
from tests.client.test_restarts import EACH_CLIENT, pytestmark, restarting
from tests.faults.daemon import DaemonProcess, free_port

from integrationd.client import GoneError, InvalidError, UnreachableError

__all__ = ["pytestmark"]

FEW = 300
# Python takes these for ends of lines; server-sent events do not.
ODD = "one\u2028two\x85three\x0bfour"


def published(client: Any, name: str, count: int) -> list[int]:
    return [client.publish(name, {"number": number}).seq for number in range(count)]


def test_published_event_is_read_as_it_was(client: Any) -> None:
    event = client.publish("customer.enrolled", {"name": ODD})

    (read,) = client.events(after=event.seq - 1, types=["customer.enrolled"], follow=False)

    assert read == event
    assert (read.type, read.tenant, read.data) == ("customer.enrolled", "default", {"name": ODD})
    assert read.at is not None


def test_log_is_read_to_its_end_and_no_further(client: Any) -> None:
    numbers = published(client, "page.turned", FEW)

    events = client.events(after=numbers[0] - 1, types=["page.*"], follow=False)

    assert [event.seq for event in events] == numbers


def test_stream_tells_what_is_there_and_then_what_happens(client: Any) -> None:
    before = published(client, "reward.issued", 3)
    stream = client.events(after=before[0] - 1, types=["reward.*", "call.completed"])
    first = [event.seq for event in itertools.islice(stream, 3)]

    call = client.send("rehearsal.hold", wait=5)
    told = next(stream)
    stream.close()

    assert first == before
    assert (told.type, told.call_id) == ("call.completed", call.id)


def test_stream_without_a_number_begins_with_what_happens_next(client: Any) -> None:
    client.publish("bell.rung", {"when": "before"})
    publishing = threading.Timer(0.5, client.publish, ["bell.rung", {"when": "after"}])
    publishing.start()

    stream = client.events(types=["bell.rung"])
    event = next(stream)
    stream.close()
    publishing.join()

    assert event.data == {"when": "after"}


def test_unusual_text_does_not_break_the_stream(client: Any) -> None:
    event = client.publish("odd.text", {"text": ODD})

    stream = client.events(after=event.seq - 1)

    assert next(stream).data == {"text": ODD}
    stream.close()


def test_lost_answer_publishes_no_second_event(door: Door, daemon: DaemonProcess) -> None:
    with Cutter(daemon.socket) as line, door.open_at(url=line.url, patience=5) as client:
        line.losses.extend(["all", "half"])
        event = client.publish("door.opened", {"by": id(door)})
        assert len(line.passed) == 3
    with door.open(daemon) as client:
        later = client.events(after=event.seq - 1, types=["door.opened"], follow=False)
        assert [one.seq for one in later] == [event.seq]


def test_refused_events_are_errors_with_a_kind(client: Any) -> None:
    with pytest.raises(InvalidError) as refused:
        client.publish("call.completed", {})
    assert refused.value.code == "reserved_type"
    with pytest.raises(InvalidError):
        next(client.events(types=["Not a type"]))
    with pytest.raises(GoneError):
        next(client.events(after=1_000_000_000))


def test_stream_from_nobody_ends_after_patience(door: Door) -> None:
    began = time.monotonic()
    with (
        door.open_at(url=f"http://127.0.0.1:{free_port()}", patience=0.5) as client,
        pytest.raises(UnreachableError),
    ):
        next(client.events())

    assert time.monotonic() - began < 4


@EACH_CLIENT
@pytest.mark.parametrize(
    "is_rough", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["kill", "stop"]
)
def test_every_event_is_told_once_and_in_order_over_restarts(
    door: Door, own_daemon: DaemonProcess, is_rough: bool
) -> None:
    told: list[int] = []
    with door.open(own_daemon) as client, door.open(own_daemon) as reader:
        first = client.publish("count.began", {}).seq

        def read() -> None:
            for event in reader.events(after=first, types=["count.*"]):
                if event.type == "count.ended":
                    return
                told.append(event.data["number"])

        reading = threading.Thread(target=read)
        reading.start()
        numbers = itertools.count()
        with restarting(own_daemon, is_rough) as over:
            while not over.is_set():
                client.publish("count.moved", {"number": next(numbers)})
        client.publish("count.ended", {})
        reading.join(20)

        assert not reading.is_alive()
    assert told == list(range(next(numbers)))
