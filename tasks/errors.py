"""One class per thing we can do about it.

::

    OnboardingError
    ├── SettingsError            stop at the start; the message names the setting
    ├── UnusableFile             reject the file as a whole; the message says where and what to do
    ├── LedgerError              the ledger is not usable (missing, newer than the code, locked)
    │   ├── LedgerReplaced       it is another one, or older, than before: send nothing, ask a person
    │   └── SecondPersonNeeded   somebody else has to do it (four eyes): nothing was done
    ├── RateLimitUnavailable     Redis is gone: send nothing, keep the rows
    └── ElepayError              elepay, or the way to it, did not create the source
        ├── NotSent              certainly never executed: try again
        │   └── Fenced           the sender may not send any more: give the row back
        ├── Throttled            too many requests: slow the whole fleet, try again
        ├── TryLater             this row must wait: a few tries, then refused
        ├── Maintenance          elepay or a provider is closed: wait with growing gaps
        ├── Unclear              may have been executed: look up, never send again blindly
        ├── AlreadyThere         elepay says it exists: look up and adopt, else refused
        ├── Refused              no for good: this row ends
        ├── MethodClosed         no for this payment method: its other rows end unsent
        └── Halted               key, account or client is wrong: stop the whole batch

    BadValue                     a value that a setting cannot have; a SettingsError comes of it

Messages carry ids and codes; never a response body, a name, a mail or a key.
"""

from __future__ import annotations

from typing import Any

from tasks.error_texts import Said, Sentence


class Explained(Exception):
    """An error that says in each language what is wrong (`tasks/error_texts.py`); `str` is English."""

    def __init__(self, template: str, /, **values: Any) -> None:
        self.sentence: Said = template if isinstance(template, Said) and not values else Sentence(template, **values)
        super().__init__(self.sentence)

    def in_language(self, lang: str) -> str:
        """Return its sentence in a language."""
        return self.sentence.in_language(lang)


class OnboardingError(Explained):
    """Whatever this program raises on purpose."""


class BadValue(Explained, ValueError):
    """A value that a setting or an option cannot have; the sentence says what it must be."""


class SettingsError(OnboardingError):
    """A setting is missing, malformed or unknown; the message names it and says what to write."""


class UnusableFile(OnboardingError):
    """The file as a whole cannot be onboarded.

    `code` is stable (`tasks/reason_texts.py`), `line` the physical line (1 is the first) where known; `column`, `value`
    and `detail` are what the sentence needs in another language (`reason_texts.explain_file`); `also` is what else
    keeps the file from being used, as far as it can be known.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        line: int | None = None,
        hint: str = "",
        column: str = "",
        value: str = "",
        detail: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.line = line
        self.hint = hint
        self.column = column
        self.value = value
        self.detail = detail
        self.also: tuple[UnusableFile, ...] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """Go whole from one process to another: by itself an exception takes its message only."""
        return UnusableFile, (self.code, str(self)), vars(self)


class LedgerError(OnboardingError):
    """The ledger cannot be used; the message says why and what to do."""


class LedgerReplaced(LedgerError):
    """The ledger has forgotten what was sent: it is another one, or older, than was worked with before."""


class SecondPersonNeeded(LedgerError):
    """Somebody else has to do this, or somebody whom the program knows (ONBOARD_FOUR_EYES)."""


class RateLimitUnavailable(OnboardingError):
    """Redis did not answer the limiter, so nothing may be sent."""


class ElepayError(OnboardingError):
    """A request to elepay that did not bring a source.

    `code` is elepay's `errorCode` (or ours in lower case when elepay sent none), `parameter` the field it names,
    `request_id` what vendor support asks for, `http_status` None when there was no answer. `bare` is True if the
    answer was not elepay's own error body: it does not prove that the request was not executed. For errors that do
    not stem from an error answer (no answer, an unreadable or repeated one) it is False and says nothing.
    """

    def __init__(
        self,
        code: str,
        *,
        parameter: str | None = None,
        request_id: str | None = None,
        http_status: int | None = None,
        retry_after_seconds: float | None = None,
        bare: bool = False,
    ) -> None:
        super().__init__(code if http_status is None else f"{code} (HTTP {http_status})")
        self.code = code
        self.parameter = parameter
        self.request_id = request_id
        self.http_status = http_status
        self.retry_after_seconds = retry_after_seconds
        self.bare = bare


class NotSent(ElepayError):
    """Certainly never executed (no connection, or our own limit): try again."""


class Fenced(NotSent):
    """The sender's lease was about to end before the first byte left: give the row back."""


class Throttled(ElepayError):
    """elepay said "too many requests": not executed; the whole fleet slows down."""


class TryLater(ElepayError):
    """elepay asks this one row to wait; the fleet goes on."""


class Maintenance(ElepayError):
    """elepay (or, by its code, one provider) is under maintenance: wait with growing gaps."""


class Unclear(ElepayError):
    """It may have been executed: look up before anything else."""


class AlreadyThere(ElepayError):
    """elepay says that such a source exists: look up and adopt ours, else refused."""


class Refused(ElepayError):
    """elepay said no for good to this row."""


class MethodClosed(ElepayError):
    """elepay said no to this payment method: its other rows need not be sent."""


class Halted(ElepayError):
    """Key, account or client is wrong: nothing more may be sent in this batch."""
