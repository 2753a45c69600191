"""The errors of this package. Each is a subclass of a peewee error, so ``except peewee.X`` catches it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from peewee import DataError, ImproperlyConfigured, OperationalError, ProgrammingError


class ConfigurationError(ImproperlyConfigured, ValueError):
    """An argument, a URL or a subclass cannot work; raised before anything is connected."""


class ReadOnlyViolation(ProgrammingError):
    """A statement or a transaction that ``readonly()`` or ``writes="refuse"`` forbids; nothing was done."""


class NoReplicaAvailable(OperationalError):
    """No replica could serve a read and ``fallback="error"``; the message names each node and its reason."""


class TransactionEscapeError(ProgrammingError):
    """A task or thread started inside ``atomic()`` queries outside that transaction; nothing was sent."""


class TransactionEscapeWarning(RuntimeWarning):
    """Like `TransactionEscapeError`, for ``on_transaction_escape="warn"``: the statement was sent anyway."""


class PasswordUnavailable(OperationalError):
    """The callable that was given as ``password`` failed, so a connection was not opened.

    The message names the node, and ``__cause__`` is the callable's own error. It says nothing about the node,
    which stays in rotation.
    """


class OutcomeUnknown(OperationalError):
    """The primary's connection was lost after a COMMIT, or a write outside a transaction, had been sent.

    The statement may have taken effect or not, and was not repeated: check the data before you repeat it.
    ``args[0]`` is the driver's error number.
    """


class PrimaryReadOnly(OperationalError):
    """The primary refused a write because it is read-only. Nothing was executed.

    The roles have changed, or ``host`` leads to a replica; the message says which, if that is known.

    The next statement outside a transaction opens a new connection, and so finds a primary that has moved.
    ``args[0]`` is the driver's error number.
    """


class BookmarkError(DataError, ValueError):
    """A bookmark is malformed, belongs to another database, or has expired; the message says which."""


class BookmarkExpired(BookmarkError):
    """A bookmark is valid, but too old, or from the future."""


@contextmanager
def importing_extra(extra: str, module: str) -> Iterator[None]:
    """Make a failed import inside the block an error that says which extra to install.

    Parameters:
        extra: the extra that brings the packages imported in the block.
        module: the public module of this package that imports them.

    Raises:
        ImportError: in place of the one raised in the block, and of the same class.
    """
    try:
        yield
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] == "peewee_replicas":
            raise  # the extra is not the cause
        raise type(exc)(
            f"{module} needs the extra {extra!r}, and cannot import it: {exc}. "
            f'Install it: pip install "peewee_replicas[{extra}]"',
            name=exc.name,
            path=exc.path,
        ) from exc
