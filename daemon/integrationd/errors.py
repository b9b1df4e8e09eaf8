"""The errors that integrationd raises, as one tree.

    IntegrationdError
    ├── ConfigError                 the configuration cannot be used
    ├── PluginError                 a plugin file cannot be used
    ├── RequestError                the caller asked for something that cannot be done
    │   ├── BadRequestError         it is not well-formed
    │   ├── UnprocessableError      it is well-formed but means nothing here
    │   ├── NotAllowedError         this caller may not do it
    │   ├── NotFoundError           there is no such thing
    │   ├── ConflictError           the state of the thing does not allow it
    │   ├── TooLargeError           it is over a size limit
    │   ├── TooManyError            its tenant has asked for as much as it may for now
    │   └── NotAvailableError       this version does not offer it
    ├── VaultError                  a secret can be neither sealed nor opened
    │   └── MasterKeyError          the master key cannot be used
    └── JournalError                the journal cannot do what was asked
        ├── JournalLockedError      another daemon owns it
        ├── JournalVersionError     it was written by a newer program
        ├── JournalFullError        the disk has no room
        │   └── JournalHighWaterError it has little, so what can wait is refused
        ├── JournalUnavailableError it is being recovered; the write may or may not be kept
        ├── DamagedError            a stored record fails its checksum
        └── LeaseLostError          the lease is no longer ours; the result was not applied

Every class carries a ``code`` for programs and a ``hint`` for the person who has to mend it.
"""

from typing import ClassVar


class IntegrationdError(Exception):
    """Base of every error that is raised on purpose."""

    code: ClassVar[str] = "error"
    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").partition("\n")[0])
        if hint:
            self.hint = hint


class ConfigError(IntegrationdError):
    """The configuration cannot be used."""

    code = "config_rejected"
    hint = "Mend the file and run 'integrationd config check'."


class PluginError(IntegrationdError):
    """A plugin file cannot be used."""

    code = "plugin_rejected"
    hint = "Mend the plugin file at the line named in the message."


class RequestError(IntegrationdError):
    """The caller asked for something that cannot be done.

    Args:
        message: What is wrong, for a person.
        code: What is wrong, for a program; the class default when empty.
        pointer: JSON pointer to the member at fault, empty when it is the whole request.
        hint: What to do about it.
    """

    status: ClassVar[int] = 400
    code = "bad_request"

    def __init__(
        self, message: str = "", *, code: str = "", pointer: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_code = code or self.code
        self.pointer = pointer


class BadRequestError(RequestError):
    """The request is not well-formed."""


class UnprocessableError(RequestError):
    """The request is well-formed but cannot be carried out as it stands."""

    status = 422
    code = "invalid"


class NotAllowedError(RequestError):
    """The caller may not do this, whatever it names."""

    status = 403
    code = "not_allowed"


class NotFoundError(RequestError):
    """There is no such thing."""

    status = 404
    code = "not_found"


class ConflictError(RequestError):
    """The thing is in a state that does not allow this."""

    status = 409
    code = "conflict"


class TooLargeError(RequestError):
    """The request is over a size limit."""

    status = 413
    code = "too_large"


class TooManyError(RequestError):
    """A tenant has asked for as much as it may for now.

    Attributes:
        retry_after_s: Seconds after which repeating makes sense, at least 1.
    """

    status = 429
    code = "too_many"

    def __init__(
        self, message: str, *, code: str, retry_after_s: int, pointer: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, code=code, pointer=pointer, hint=hint)
        self.retry_after_s = retry_after_s


class NotAvailableError(RequestError):
    """This version does not offer what was asked for."""

    status = 422
    code = "not_available"


class VaultError(IntegrationdError):
    """A secret can be neither sealed nor opened."""

    code = "vault_unusable"
    hint = "Set the secret anew, or restore the journal and the master key that belong together."


class MasterKeyError(VaultError):
    """The master key cannot be used, so no secret can be opened.

    Attributes:
        is_missing: Its file does not exist.
        is_elsewhere: Another process, such as the daemon, may well have it: it stands in an
            environment or a file that this one may not read.
    """

    code = "master_key_unusable"
    hint = "Put the master key back where [vault] master_key says."

    def __init__(
        self,
        message: str = "",
        *,
        hint: str = "",
        is_missing: bool = False,
        is_elsewhere: bool = False,
    ) -> None:
        super().__init__(message, hint=hint)
        self.is_missing = is_missing
        self.is_elsewhere = is_elsewhere


class JournalError(IntegrationdError):
    """The journal cannot do what was asked."""

    code = "journal_error"
    hint = "See 'integrationd status'."


class JournalLockedError(JournalError):
    """Another daemon owns this journal."""

    code = "journal_locked"
    hint = "Stop the other daemon, or give this one a [journal] path of its own."


class JournalVersionError(JournalError):
    """The journal was written by a newer integrationd."""

    code = "journal_version"
    hint = "Install the version that wrote it, or restore a backup made before the upgrade."


class JournalFullError(JournalError):
    """The disk has no room for the journal; nothing was kept."""

    code = "journal_full"
    hint = "Free space on the journal's disk. Accepting resumes by itself."


class JournalHighWaterError(JournalFullError):
    """The journal's disk is low on room: calls of low priority are refused until there is more."""

    code = "journal_high_water"
    hint = "Send it again later. Free space on the journal's disk; accepting resumes by itself."


class JournalUnavailableError(JournalError):
    """The journal is being recovered after a disk fault; this write may or may not be kept."""

    code = "journal_unavailable"
    hint = "Repeat the request with the same Idempotency-Key."


class DamagedError(JournalError):
    """A stored record fails its checksum and is not served."""

    code = "damaged"
    hint = "Stop the daemon and run 'integrationd verify', then 'integrationd salvage'."


class LeaseLostError(JournalError):
    """The lease expired or the call was settled by someone else; this result was not applied."""

    code = "lease_lost"
    hint = "Raise the connection's timeout above the provider's slowest reply."
