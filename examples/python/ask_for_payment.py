"""Ask for a payment and show what the customer has to do: ask_for_payment.py ORDER AMOUNT PHONE."""

import sys

from integrationd.client import Client, Reference


def main(order: str, amount: str, phone: str) -> None:
    """Ask for it, print what the customer has to do, and wait until it is paid."""
    with Client() as client:
        call = client.send(
            "payment.initiate",
            {
                "amount": amount,
                "currency": "KES",
                "customer": {"phone": phone},
                "account": f"order{order}",
            },
            key=f"order-{order}-payment",
            reference=Reference("order", order),
            wait=10,
        )
        if call.state == "waiting":
            print(call.result.get("redirect_url") or call.result.get("instructions"), flush=True)
            call = client.wait(call.id, 300, final=True)
        print(call.id, call.state, call.detail or "")


main(*sys.argv[1:])
