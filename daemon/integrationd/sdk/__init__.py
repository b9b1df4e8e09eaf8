"""Everything that a plugin may import from integrationd."""

from pydantic import SecretStr

from integrationd.clock import to_rfc3339
from integrationd.sdk import classify
from integrationd.sdk.context import Context
from integrationd.sdk.contract import Contract, Request, Result
from integrationd.sdk.contracts import CATALOGUE
from integrationd.sdk.contracts.email import (
    EmailAttachment,
    EmailSend,
    EmailSendBatch,
    EmailSendBatchResult,
    EmailSendResult,
    split_mailbox,
)
from integrationd.sdk.contracts.http import HttpRequest, HttpResult
from integrationd.sdk.contracts.push import PushSend, PushSendResult
from integrationd.sdk.contracts.sms import (
    SmsBalance,
    SmsBalanceResult,
    SmsSend,
    SmsSendBulk,
    SmsSendBulkResult,
    SmsSendResult,
)
from integrationd.sdk.contracts.whatsapp import (
    WhatsappMedia,
    WhatsappSend,
    WhatsappSendResult,
    WhatsappTemplate,
    WhatsappTemplateComponent,
    WhatsappText,
)
from integrationd.sdk.outcome import (
    Accepted,
    CannotTell,
    Delivered,
    Done,
    Finding,
    NeverHappened,
    Outcome,
    Part,
    PartOutcome,
    Pending,
    Refused,
    Rejected,
    Retryable,
    Throttled,
    Uncertain,
)
from integrationd.sdk.provider import (
    Asked,
    HttpProviderConfig,
    Provider,
    ProviderConfig,
    QuerySchedule,
    UnsupportedError,
    operation,
    query,
)

__all__ = [
    "CATALOGUE",
    "Accepted",
    "Asked",
    "CannotTell",
    "Context",
    "Contract",
    "Delivered",
    "Done",
    "EmailAttachment",
    "EmailSend",
    "EmailSendBatch",
    "EmailSendBatchResult",
    "EmailSendResult",
    "Finding",
    "HttpProviderConfig",
    "HttpRequest",
    "HttpResult",
    "NeverHappened",
    "Outcome",
    "Part",
    "PartOutcome",
    "Pending",
    "Provider",
    "ProviderConfig",
    "PushSend",
    "PushSendResult",
    "QuerySchedule",
    "Refused",
    "Rejected",
    "Request",
    "Result",
    "Retryable",
    "SecretStr",
    "SmsBalance",
    "SmsBalanceResult",
    "SmsSend",
    "SmsSendBulk",
    "SmsSendBulkResult",
    "SmsSendResult",
    "Throttled",
    "Uncertain",
    "UnsupportedError",
    "WhatsappMedia",
    "WhatsappSend",
    "WhatsappSendResult",
    "WhatsappTemplate",
    "WhatsappTemplateComponent",
    "WhatsappText",
    "classify",
    "operation",
    "query",
    "split_mailbox",
    "to_rfc3339",
]
