"""Follow events of calls and payments: follow_events.py [NUMBER OF THE LAST ONE SEEN]."""

import sys

from integrationd.client import Client


def main(seen: str = "") -> None:
    """Print events as they happen, also over restarts of the daemon."""
    with Client() as client:
        for event in client.events(
            after=int(seen) if seen else None, types=["call.*", "payment.*"]
        ):
            # Keep event.seq together with what you do about the event.
            print(event.seq, event.type, event.call_id, event.data, flush=True)


main(*sys.argv[1:])
