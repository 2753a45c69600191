"""What a failure says, and in which words it is told, for one form of the library."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peewee import OperationalError

from ..nodes.node import Node
from ..servers.error_meanings import NO_CONNECTION, NOT_OPENED, Meaning, explained, meaning, remedy
from ..servers.wire.connection import NOTHING_SENT
from ..servers.wire.system_errors import behind
from .failures import ejects

CONNECTING = "_peewee_replicas_connecting"
"""The attribute that marks an error which was met while connecting."""


def mysql_meaning(exc: BaseException, server: str | None = None) -> Meaning:
    """What an error of MySQL or MariaDB says about the node it came from.

    Parameters:
        server: which of the two it is, where that is known: some numbers mean different things on them.
    """
    # peewee turns the driver's errors into its own, which keep the first as `orig`.
    cause = getattr(exc, "orig", exc)
    return meaning(
        type(exc).__name__,
        exc.args,
        connecting=getattr(cause, CONNECTING, False),
        behind=behind(exc),
        server=server,
    )


class Diagnosis:
    """Reads errors, and writes them for people.

    Parameters:
        meaning: what an error says about the node it came from.
    """

    def __init__(self, meaning: Callable[[BaseException], Meaning]) -> None:
        self.meaning = meaning

    def has_no_connection(self, exc: BaseException) -> bool:
        """Whether the error says that there is no connection, or none any more."""
        return self.meaning(exc) in NO_CONNECTION

    def is_not_opened(self, exc: BaseException) -> bool:
        """Whether the error says that a connection could not be opened."""
        return self.meaning(exc) in NOT_OPENED

    def ejects(self, node: Node, exc: BaseException) -> bool:
        """Whether a node leaves the rotation because connecting to it failed with this error."""
        return ejects(self.meaning(exc), in_use=node.has_connections())

    def sent_nothing(self, exc: BaseException) -> bool:
        """Whether a question of the library's own has lost the connection before the statement left."""
        return getattr(getattr(exc, "orig", exc), NOTHING_SENT, False)

    def remedy(self, exc: BaseException) -> str:
        """What to look at, in words; ``""`` where the error's own words say it."""
        return remedy(exc.args[0] if exc.args else None, self.meaning(exc), behind(exc))

    def cause(self, exc: BaseException) -> str:
        """The error in words, with what to do about it."""
        words = self.remedy(exc)
        return f"{type(exc).__name__}: {exc}" + (f"; {words}" if words else "")

    def name_node(self, exc: BaseException, label: str) -> None:
        """Put the node's name and the remedy into an error that says there is no connection to it."""
        if self.has_no_connection(exc):
            exc.args = explained(exc.args, label, self.remedy(exc))

    def reasons(self, tried: dict[Node, BaseException], others: str) -> str:
        """Why no replica can serve a read.

        Parameters:
            tried: the replicas that were tried now, and what they raised.
            others: why the rest is out of rotation, in words.
        """
        return "; ".join(text for text in (*self._each(tried), others) if text)

    def _each(self, tried: dict[Node, BaseException]) -> Iterable[str]:
        for replica, exc in tried.items():
            words = self.remedy(exc)
            yield f"{replica.label}: {exc}" + (f"; {words}" if words else "")


def nobody_answers(reasons: str, exc: BaseException, kind: type[OperationalError]) -> OperationalError:
    """The error to raise when no node at all can be had.

    Parameters:
        reasons: why no replica can serve a read.
        exc: the primary's error, which names it.
        kind: the class of the error to raise.
    """
    return kind(*exc.args[:-1], f"no node answers: {reasons}; {exc.args[-1]}")
