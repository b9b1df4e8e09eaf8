"""What a new plugin begins with, for each operation of the catalogue.

The service that these speak to is made up; its paths and members are there to be replaced.
"""

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What differs from one operation to another in a new plugin and its test.

    Attributes:
        request: The contract's request, a name of ``integrationd.sdk``.
        method: The name of the method that sends.
        does: The first sentence of its docstring.
        marks: What ``@operation`` says beside the name.
        body: The method's statements, up to and with the success.
        uses: Further names of ``integrationd.sdk`` that the body needs.
        imports: Import lines beside that of the SDK.
        before: Definitions in front of the class.
        after: Further methods of the class.
        payload: A payload to send, as it stands in the test.
        accepted: What the service answers to it, as it stands in the test.
    """

    request: str
    method: str = "send"
    does: str
    marks: str = "repeat_safe=False"
    body: str
    uses: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    before: str = ""
    after: str = ""
    payload: str
    accepted: str


_REFUSAL = """\
        if response.status_code == 422:
            return Rejected(reason="invalid_request", detail="The service refused it for good.")
        outcome = classify.of_status(response, ctx.clock.now_ms())
        if outcome is not None:
            return outcome
"""
_UNREADABLE = """\
        except (ValueError, KeyError, TypeError):
            return Uncertain(reason="unreadable_reply", detail="The answer has no id.")
"""
_ONE_ID = (
    _REFUSAL
    + """\
        try:
            message_id = str(response.json()["id"])
"""
    + _UNREADABLE
    + """\
        return Delivered(reference=message_id, result={"message_id": message_id})
"""
)


def _post(path: str, members: str) -> str:
    return f"""\
        response = await ctx.http.post(
            "{path}",
            json={{
{members}\
            }},
            headers=self._credentials(),
        )
"""


_SMS_SEND = Recipe(
    request="SmsSend",
    does="Send one text to one phone.",
    body=_post(
        "/v1/messages",
        """\
                "reference": ctx.reference,
                "to": request.to,
                "from": request.sender,
                "text": request.message,
""",
    )
    + _ONE_ID,
    payload='{"to": "+254711000111", "message": "Hello"}',
    accepted='{"id": "m-1"}',
)

_SMS_SEND_BULK = Recipe(
    request="SmsSendBulk",
    does="Send one text to the phones that have not got it yet.",
    body=_post(
        "/v1/messages/bulk",
        """\
                "reference": ctx.reference,
                "to": list(ctx.open_recipients),
                "from": request.sender,
                "text": request.message,
""",
    )
    + _REFUSAL
    + """\
        try:
            ids = {str(one["to"]): str(one["id"]) for one in response.json()["messages"]}
"""
    + _UNREADABLE
    + """\
        missing = Uncertain(reason="not_in_reply", detail="The answer does not name it.")
        return Delivered(
            parts=[
                Part(
                    recipient=phone,
                    outcome=Delivered(reference=ids[phone]) if phone in ids else missing,
                )
                for phone in ctx.open_recipients
            ]
        )
""",
    uses=("Part",),
    payload='{"recipients": ["+254711000111", "+254711000222"], "message": "Hello"}',
    accepted="""{
                "messages": [
                    {"to": "+254711000111", "id": "m-1"},
                    {"to": "+254711000222", "id": "m-2"},
                ]
            }""",
)

_SMS_BALANCE = Recipe(
    request="SmsBalance",
    method="balance",
    does="Ask how much money the account holds.",
    marks="repeat_safe=True, reads_only=True",
    body='        response = await ctx.http.get("/v1/balance", headers=self._credentials())\n'
    + _REFUSAL
    + """\
        try:
            found = response.json()
            result = {"balance": str(found["amount"]), "currency": str(found["currency"])}
"""
    + _UNREADABLE.replace("no id", "no balance")
    + """\
        return Delivered(result=result)
""",
    payload="{}",
    accepted='{"amount": "1250.50", "currency": "KES"}',
)

_EMAIL_MEMBERS = """\
                "reference": ctx.reference,
                "from": request.sender,
                "to": request.to,
                "cc": request.cc,
                "bcc": request.bcc,
                "reply_to": request.reply_to,
                "subject": request.subject,
                "text": request.text,
                "html": request.html,
"""

_EMAIL_SEND = Recipe(
    request="EmailSend",
    does="Send one e-mail.",
    body=_post("/v1/emails", _EMAIL_MEMBERS) + _ONE_ID,
    after='''
    def unsupported(self, operation: str, request: EmailSend) -> str | None:
        """Refuse what is not handed over yet, so that it is not lost without a word."""
        if request.attachments or request.headers:
            return "attachments and headers are not supported yet"
        return None
''',
    payload='{"to": "ann@shop.example", "subject": "Hello", "text": "Hello"}',
    accepted='{"id": "m-1"}',
)

_EMAIL_SEND_BATCH = Recipe(
    request="EmailSendBatch",
    does="Send the e-mails that have not been sent yet.",
    body="""\
        response = await ctx.http.post(
            "/v1/emails/batch",
            json=[_email(request.messages[_position(name)]) for name in ctx.open_recipients],
            headers=self._credentials(),
        )
"""
    + _REFUSAL
    + """\
        try:
            ids = [str(one["id"]) for one in response.json()["messages"]]
            parts = [
                Part(recipient=name, outcome=Delivered(reference=found))
                for name, found in zip(ctx.open_recipients, ids, strict=True)
            ]
"""
    + _UNREADABLE
    + """\
        return Delivered(parts=parts)
""",
    uses=("EmailSend", "Part"),
    before='''
def _position(name: str) -> int:
    """Return which message a part is about: its recipient is ``POSITION:ADDRESS``."""
    return int(name.partition(":")[0])


def _email(message: EmailSend) -> dict[str, object]:
    return {
        "from": message.sender,
        "to": message.to,
        "cc": message.cc,
        "bcc": message.bcc,
        "reply_to": message.reply_to,
        "subject": message.subject,
        "text": message.text,
        "html": message.html,
    }

''',
    after='''
    def unsupported(self, operation: str, request: EmailSendBatch) -> str | None:
        """Refuse what is not handed over yet, so that it is not lost without a word."""
        if any(message.attachments or message.headers for message in request.messages):
            return "attachments and headers are not supported yet"
        return None
''',
    payload="""{
        "messages": [
            {"to": "ann@shop.example", "subject": "Hello", "text": "Hello Ann"},
            {"to": "ben@shop.example", "subject": "Hello", "text": "Hello Ben"},
        ]
    }""",
    accepted='{"messages": [{"id": "m-1"}, {"id": "m-2"}]}',
)

_PUSH_SEND = Recipe(
    request="PushSend",
    does="Send one push notification.",
    body=_post(
        "/v1/notifications",
        """\
                "reference": ctx.reference,
                "token": request.token,
                "topic": request.topic,
                "condition": request.condition,
                "title": request.title,
                "body": request.body,
                "data": request.data,
                "image": request.image,
                "ttl": request.ttl_s,
                "priority": request.priority,
                "collapse_key": request.collapse_key,
""",
    )
    + _ONE_ID,
    payload='{"token": "device-token", "title": "Hello", "body": "Hello"}',
    accepted='{"id": "m-1"}',
)

_WHATSAPP_SEND = Recipe(
    request="WhatsappSend",
    does="Send one WhatsApp message.",
    body=_post(
        "/v1/messages",
        """\
                "reference": ctx.reference,
                "to": request.to,
                "text": request.text.body if request.text is not None else "",
                "reply_to": request.reply_to,
""",
    )
    + _ONE_ID,
    after='''
    def unsupported(self, operation: str, request: WhatsappSend) -> str | None:
        """Refuse what is not handed over yet, so that it is not lost without a word."""
        if request.text is None:
            return "templates and media are not supported yet"
        return None
''',
    payload='{"to": "+254711000111", "text": {"body": "Hello"}}',
    accepted='{"id": "m-1"}',
)

_HTTP_REQUEST = Recipe(
    request="HttpRequest",
    method="request",
    does="Send one request, with the credentials of the connection.",
    marks="repeat_safe=_only_reads, reads_only=_only_reads",
    body="""\
        response = await ctx.http.request(
            request.method,
            request.path,
            params=request.query or None,
            content=_body(request),
            headers={**request.headers, **self._credentials()},
        )
"""
    + _REFUSAL
    + """\
        result = {
            "status": response.status_code,
            "headers": dict(response.headers),
            "body": response.text,
        }
        return Delivered(result=result)
""",
    imports=("import msgspec",),
    before="""
def _only_reads(_provider: object, request: HttpRequest) -> bool:
    return request.method in {"GET", "HEAD", "OPTIONS"}


def _body(request: HttpRequest) -> bytes | None:
    return bytes(request.json) if isinstance(request.json, msgspec.Raw) else None

""",
    after='''
    def unsupported(self, operation: str, request: HttpRequest) -> str | None:
        """Refuse what is not handed over yet, so that it is not lost without a word."""
        if request.form is not None or request.text is not None:
            return "bodies other than JSON are not supported yet"
        return None
''',
    payload='{"method": "POST", "path": "/v1/orders", "json": {"order": 7}}',
    accepted='{"id": "o-1"}',
)

RECIPES = {
    "sms.send": _SMS_SEND,
    "sms.send_bulk": _SMS_SEND_BULK,
    "sms.balance": _SMS_BALANCE,
    "email.send": _EMAIL_SEND,
    "email.send_batch": _EMAIL_SEND_BATCH,
    "push.send": _PUSH_SEND,
    "whatsapp.send": _WHATSAPP_SEND,
    "http.request": _HTTP_REQUEST,
}
"""What each operation begins with."""
