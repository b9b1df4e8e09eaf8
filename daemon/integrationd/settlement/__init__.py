"""What follows from an outcome, a finding or a person's word: pure decisions, no I/O.

Each function takes the call as it stands, what became known, the policy and the time, and returns
a :class:`Settlement`: the call as it shall stand, what to store beside it, and the rule applied.
The journal writes a settlement in one commit, guarded by the lease and the revision.
"""

from integrationd.settlement.finding import settle_finding, settle_late_outcome, settle_notice
from integrationd.settlement.money import money_event, tells_of_money
from integrationd.settlement.parts import of_one
from integrationd.settlement.person import cancel, expire, give_back, resolve, retry
from integrationd.settlement.receipt import settle_receipt
from integrationd.settlement.record import LINK_DOWN, Policy, Resolution, Settlement
from integrationd.settlement.send import may_still_repeat, settle_send, settle_unrepeatable

__all__ = [
    "LINK_DOWN",
    "Policy",
    "Resolution",
    "Settlement",
    "cancel",
    "expire",
    "give_back",
    "may_still_repeat",
    "money_event",
    "of_one",
    "resolve",
    "retry",
    "settle_finding",
    "settle_late_outcome",
    "settle_notice",
    "settle_receipt",
    "settle_send",
    "settle_unrepeatable",
    "tells_of_money",
]
