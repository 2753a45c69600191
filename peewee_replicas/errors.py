"""The errors of this package; each is one of peewee's own, so ``except peewee.X`` goes on catching it."""

from __future__ import annotations

from peewee import DataError, ImproperlyConfigured, OperationalError, ProgrammingError


class ConfigurationError(ImproperlyConfigured, ValueError):
    """An argument, a URL or a subclass cannot work; raised before anything is connected."""


class ReadOnlyViolation(ProgrammingError):
    """A statement, or a transaction, that ``readonly()`` does not allow; nothing was executed."""


class NoReplicaAvailable(OperationalError):
    """No replica could serve a read and ``fallback="error"``; the message names each node and its reason."""


class TransactionEscapeError(ProgrammingError):
    """A task or thread started inside ``atomic()`` queries outside that transaction; nothing was sent."""


class TransactionEscapeWarning(RuntimeWarning):
    """The same, where ``on_transaction_escape="warn"``: the statement was sent all the same."""


class OutcomeUnknown(OperationalError):
    """The primary's connection was lost after a COMMIT, or a write of its own, had been sent.

    It may have taken effect or not, and was not repeated: look at the data before doing it again.
    ``args[0]`` is the driver's number.
    """


class PrimaryReadOnly(OperationalError):
    """The primary refused a write because it is read-only. Nothing was executed.

    The roles have changed, or ``host`` leads to a replica; the message says which where that is known.

    The next statement outside a transaction connects anew, and so finds a primary that has moved.
    ``args[0]`` is the driver's number.
    """


class BookmarkError(DataError, ValueError):
    """A bookmark is malformed, of another database, or has expired; the message says which."""


class BookmarkExpired(BookmarkError):
    """A bookmark is sound, but too old, or from the future."""
