"""The catalogue of events: every type that the daemon itself appends to the event log.

``docs/events.md`` shows it, and a test compares it with what the code appends. Plugins may add
types of their own for what a provider tells unasked, and apps publish theirs.
"""

import re
from collections.abc import Mapping

EVENT_TYPES: Mapping[str, str] = {
    "call.completed": "A call has had its effect.",
    "call.failed": "A call was refused for good, or its attempts were used up.",
    "call.expired": "A call's time was over before it could be delivered.",
    "call.cancelled": "A call was called off by a person or its app.",
    "call.waiting": "A provider took a call on; its effect is still open.",
    "call.unknown": "A call may or may not have had its effect.",
    "call.needs_attention": "A call stays unknown until a person settles it.",
    "call.contradicted": "Evidence speaks against a call's final state, which stays.",
    "call.retried": "A failed or expired call was sent again by a person.",
    "call.resolved": "A person said what became of an unknown call.",
    "payment.received": "A customer paid without being asked by a call.",
    "payment.succeeded": "A payment that a call asked for was made.",
    "payment.failed": "A payment that a call asked for was not made.",
    "payment.refunded": "A payment was given back.",
    "payment.refund_failed": "A payment could not be given back.",
    "payment.refund_needs_attention": "A refund is stuck at the provider until somebody helps it.",
    "payment.paid_out": "Money that a call sent has arrived.",
    "payment.payout_failed": "Money that a call was to send was not sent.",
    "payment.disputed": "A customer disputes a payment.",
    "payment.dispute_due": "A dispute waits for an answer.",
    "payment.dispute_resolved": "A dispute is over.",
    "billing.invoice_paid": "An invoice of a subscription was paid.",
    "billing.invoice_failed": "An invoice of a subscription could not be paid.",
    "billing.subscription_changed": "A subscription at a provider began, or has changed.",
    "billing.subscription_ended": "A subscription at a provider is over.",
    "sms.delivered": "A message has reached its phone.",
    "sms.failed": "A message that was handed over did not reach its phone.",
    "sms.received": "A message came in.",
    "sms.opted_out": "Somebody wants no more messages.",
    "email.delivered": "A mail has reached its mailbox.",
    "email.failed": "A mail that was handed over did not reach its mailbox.",
    "email.bounced": "A mail came back: there is no such mailbox.",
    "email.complained": "The reader of a mail called it spam.",
    "email.read": "A mail was opened.",
    "whatsapp.sent": "A WhatsApp message was sent on by the provider.",
    "whatsapp.delivered": "A WhatsApp message has reached its phone.",
    "whatsapp.read": "A WhatsApp message was read.",
    "whatsapp.failed": "A WhatsApp message that was handed over did not reach its phone.",
    "webhook.received": "A provider's webhook was verified and is in the inbox.",
    "webhook.refused": "Webhooks to a connection proved nothing; told once a minute, with a count.",
    "webhook.replayed": "A person had a webhook of the inbox worked on again.",
    "breaker.opened": "A connection failed too often and is left alone for a while.",
    "breaker.closed": "A connection works again, or its breaker was reset by hand.",
    "link.down": "Nobody beyond this machine's own networks can be reached; calls wait.",
    "link.up": "The world can be reached again.",
    "config.applied": "A configuration was taken over.",
    "config.rejected": "A configuration was refused; the one from before goes on.",
    "plugin.loaded": "A plugin file was taken over.",
    "plugin.rejected": "A plugin file cannot be used; what it had brought before goes on.",
    "plugin.gone": "A plugin file is not there any more.",
    "journal.high_water": "The disk is low on room: calls of low priority are refused.",
    "journal.full": "The disk is full, or nearly so: nothing new is accepted.",
    "journal.recovering": "The journal's disk failed: it is being reopened and checked.",
    "journal.resumed": "The journal takes new calls again.",
    "journal.damaged": "A stored call fails its checksum and was set aside.",
    "journal.acknowledged": "A person took note of a loss that the journal had found.",
    "journal.restored": "The journal was restored from a backup.",
    "journal.salvaged": "The journal holds what could be saved of a damaged one.",
    "journal.lost": "The journal was found to end before what had been durable.",
    "journal.pruned": "Attempts older than [retention] allows were deleted.",
    "connection.created": "A connection was made over the API.",
    "connection.changed": "A connection was changed over the API.",
    "connection.deleted": "A connection was deleted over the API.",
    "connection.authorised": "A connection may act for its account at the provider.",
    "connection.needs_authorisation": "A connection stands still until a person authorises it.",
    "connection.authorisation_revoked": "A connection's right to act for its account was given up.",
    "tenant.created": "A tenant was made over the API.",
    "tenant.changed": "A tenant was changed over the API.",
    "tenant.deleted": "A tenant was deleted over the API.",
    "privacy.erased": "What was kept of one person was erased.",
    "key.created": "An API key was made.",
    "key.rotated": "An API key was made in the place of another.",
    "key.revoked": "An API key was revoked.",
    "subscription.created": "A subscription was made.",
    "subscription.changed": "A subscription was changed.",
    "subscription.rotated": "A subscription has a new secret.",
    "subscription.disabled": "A subscription was switched off: its receiver is gone, or long dead.",
    "subscription.redelivered": "Events of the past are told to a subscription again.",
    "subscription.deleted": "A subscription was deleted.",
    "vault.secret_set": "A secret was set.",
    "vault.secret_deleted": "A secret was deleted.",
    "vault.rotated": "The vault has a new master key.",
}

# Words that the daemon's types begin with, and those that it keeps for itself.
RESERVED = frozenset({name.partition(".")[0] for name in EVENT_TYPES}) | {
    "audit",
    "daemon",
    "event",
    "integrationd",
    "push",
    "oauth",
    "route",
}
TYPE_LIMIT = 100
_NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")
_PATTERN = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)*(\.\*)?")


def is_type(text: str) -> bool:
    """Say whether a text can be the type of an event: dotted, lower case."""
    return len(text) <= TYPE_LIMIT and _NAME.fullmatch(text) is not None


def is_type_pattern(text: str) -> bool:
    """Say whether a text names a type, or all that begin alike: ``payment.*``; ``*`` for all."""
    return text == "*" or (len(text) <= TYPE_LIMIT and _PATTERN.fullmatch(text) is not None)


def is_reserved(name: str) -> bool:
    """Say whether a type is of the daemon's own namespaces, so that no app may publish it."""
    return name.partition(".")[0] in RESERVED
