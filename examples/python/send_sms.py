"""Send an SMS and wait for the result: send_sms.py ORDER PHONE MESSAGE."""

import sys

from integrationd.client import Client, Reference


def main(order: str, phone: str, message: str) -> None:
    """Send it, and print what became of it."""
    with Client() as client:
        # The client repeats this while the daemon restarts or is busy; the key makes it one SMS,
        # even if this program is run again.
        call = client.send(
            "sms.send",
            {"to": phone, "message": message},
            key=f"order-{order}-sms",
            reference=Reference("order", order),
            wait=10,
        )
    print(call.id, call.state, call.detail or "")


main(*sys.argv[1:])
