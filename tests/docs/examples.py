"""The bodies that docs/api.md shows; what has none here is made up from its schema."""

from collections.abc import Mapping
from typing import Any, Final

from integrationd.api.users.prefix import PREFIX

PHONE = "+254711000111"
SMS = {"to": PHONE, "message": "Your order is ready"}
TEMPLATE = {"name": "order_ready", "language": "en"}
CONNECTION = {
    "provider": "africastalking",
    "environment": "sandbox",
    "config": {"username": "sandbox", "api_key": "the-key"},
}
CONFIG = {
    "provider": "africastalking",
    "is_enabled": True,
    "settings": {"username": "sandbox"},
    "credentials": {"api_key": "the-key"},
}
SUBSCRIPTION = {"url": "https://shop.example/events", "events": ["call.*", "payment.*"]}

# By method and path.
BODIES: Final[Mapping[tuple[str, str], Any]] = {
    ("post", "/v1/calls"): {
        "operation": "sms.send",
        "payload": SMS,
        "reference": {"type": "order", "id": "4711"},
    },
    ("post", "/v1/calls/batch"): {
        "calls": [{"operation": "sms.send", "payload": SMS, "idempotency_key": "order-4711-sms"}]
    },
    ("post", "/v1/calls/{call_id}/resolve"): {
        "resolution": "done",
        "note": "It is on the statement",
    },
    ("post", "/v1/events"): {"type": "customer.enrolled", "data": {"customer": "c-9"}},
    ("post", "/v1/keys"): {"name": "shop", "role": "staff"},
    ("post", "/v1/keys/{key_id}/rotate"): {"grace": 3600},
    ("put", "/v1/vault/secrets/{name}"): {"value": "the-secret"},
    ("post", "/v1/sms/send"): SMS,
    ("post", "/v1/sms/send_bulk"): {"recipients": [PHONE], "message": "School opens on Monday"},
    ("post", "/v1/email/send"): {
        "to": "ann@example.org",
        "subject": "Fees",
        "text": "Received, thank you.",
    },
    ("post", "/v1/payment/initiate"): {
        "amount": "2500.00",
        "currency": "KES",
        "customer": {"phone": PHONE},
        "account": "pupil17",
    },
    ("post", "/v1/payment/verify"): {"provider_reference": "SAB0000011"},
    ("post", "/v1/payment/refund"): {
        "payment": "SAB0000011",
        "amount": "2500.00",
        "currency": "KES",
    },
    ("post", "/v1/payment/payout"): {"amount": "900", "currency": "KES", "phone": PHONE},
    ("post", "/v1/email/send_batch"): {
        "messages": [{"to": "ann@example.org", "subject": "Fees", "text": "They are due."}]
    },
    ("post", "/v1/push/send"): {"topic": "school-17", "title": "School opens on Monday"},
    ("post", "/v1/whatsapp/send"): {"to": PHONE, "template": TEMPLATE},
    ("post", "/v1/webhook/send"): {"type": "reward.issued", "body": '{"points": 50}'},
    ("post", "/v1/billing/customer"): {"email": "ann@example.org", "name": "Ann Wanjiru"},
    ("post", "/v1/billing/portal"): {"customer_id": "cus_1"},
    ("post", "/v1/billing/cancel"): {"subscription_id": "sub_1"},
    ("post", "/v1/connections"): CONNECTION | {"id": "at-main"},
    ("put", "/v1/connections/{name}"): CONNECTION,
    ("post", "/v1/tenants"): {"id": "uhuru-school", "name": "Uhuru School"},
    ("put", "/v1/tenants/{tenant_id}"): {"name": "Uhuru School", "status": "suspended"},
    ("post", "/v1/erasures"): {"subject": PHONE, "dry_run": True},
    ("post", "/v1/subscriptions"): SUBSCRIPTION,
    ("put", "/v1/subscriptions/{subscription}"): SUBSCRIPTION,
    ("post", "/v1/subscriptions/{subscription}/redeliver"): {"after": 4711, "dry_run": True},
    ("post", "/v1/subscriptions/{subscription}/rotate"): {"overlap": 86400},
    ("post", "/v1/vault/rotate"): {"data_keys": True},
    ("post", f"{PREFIX}configs"): CONFIG,
    ("put", f"{PREFIX}configs/{{name}}"): CONFIG,
    ("post", "/v1/http/request"): {"method": "POST", "path": "/orders", "json": {"kg": 50}},
}
