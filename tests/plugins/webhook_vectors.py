"""Worked signatures of webhooks out, from the contract sheet of the provider."""

from pathlib import Path

WEBHOOK = Path(__file__).parents[2] / "plugins" / "webhook" / "webhook.py"

WEBHOOK_ID = "evt_01HZX4M8Q2"
SENT_S = 1771325101
BODY = (
    '{"type":"reward.issued","timestamp":"2026-02-17T10:45:01Z",'
    '"data":{"customer_id":"c-9","points":50}}'
)
OLD = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
OLD_SIGNATURE = "v1,Ezuo/5LIwBjswzQLRRLeVM0GyUBYs+BCq4ZjFtJhJrE="
NEW = "whsec_ZWZnaGlqa2xtbm9wcXJzdHV2d3h5ent8fX5/gIGCg4Q="
NEW_SIGNATURE = "v1,Rvybi+duGsnMtV/FIms/hkhPL/lxVSB4A3DTBsdR8hg="
PRIVATE = "whsk_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
PRIVATE_SIGNATURE = (
    "v1a,WyQr4dv1S0EYpv1r8O8wzCIGTs1jSMrCPV1vQoVTMrqzRiSGsw3qVLPzohJdoLQ7pqKm8yPWSAIuoLjmuT4KAQ=="
)
SIMPLE_BODY = (
    '{"event":"customer.enrolled","timestamp":1771325101,"tenant_id":"t-12",'
    '"data":{"customer_id":"c-9"}}'
)
SIMPLE_SECRET = "plain-shared-secret"
SIMPLE_SIGNATURE = "5ebe943cfe557898cca6ca3df4ac0a1e1423cd3335d089657765c043d2b5f152"
