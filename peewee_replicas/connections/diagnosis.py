"""Find out what an error means, and put it into words. The caller supplies the rules for its driver."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from peewee import OperationalError, PeeweeException
from pymysql.constants import CR, ER
from pymysql.err import MySQLError

from ..errors import PasswordUnavailable
from ..nodes.node import Node
from ..servers.error_meanings import (
    NO_CONNECTION,
    NOT_OPENED,
    Meaning,
    explained,
    in_words,
    is_servers,
    meaning,
    remedy,
)
from ..servers.wire.connection import NOTHING_SENT
from ..servers.wire.system_errors import system_failure
from .failures import TREATMENTS, ejects

CONNECTING = "_peewee_replicas_connecting"
"""The attribute that marks an error raised while connecting."""

GIVEN_UP = "_peewee_replicas_given_up"
"""The attribute that marks an error of an attempt to connect that the server has given up."""

_NAMES = {number: name for name, number in vars(ER).items() if isinstance(number, int)}


def named(exc: BaseException) -> str:
    """Return an error as an event reports it: its class, and a server's error number and name.

    The server's message is left out, because it quotes the statement, and a procedure can put anything into
    it. For the same reason, only the class is reported of errors from neither peewee nor this library, such
    as a converter's.
    """
    if is_servers(exc):
        number = exc.args[0]
        return f"{type(exc).__name__}: {number} {_NAMES.get(number, '')}".rstrip()
    return in_words(exc) if isinstance(exc, PeeweeException) else type(exc).__name__


def number_of(exc: BaseException) -> int | None:
    """Return the number of a server's or the driver's error; None if it has none."""
    number = exc.args[0] if exc.args else None
    known = isinstance(exc, (PeeweeException, MySQLError)) and isinstance(number, int)
    return number if known and number else None  # the driver's 0 stands for no number


def mysql_meaning(exc: BaseException, server: str | None = None) -> Meaning:
    """Return what an error of MySQL or MariaDB means for the node it came from.

    Parameters:
        server: ``"mysql"`` or ``"mariadb"``, if known: some error numbers differ between them.
    """
    # peewee wraps the driver's error in its own, and keeps the driver's as `orig`.
    cause = getattr(exc, "orig", exc)
    if isinstance(cause, PasswordUnavailable):
        return "exhausted"  # the program lacks something, and the node is fine
    return meaning(
        type(exc).__name__,
        exc.args,
        connecting=getattr(cause, CONNECTING, False),
        cause=system_failure(exc),
        server=server,
    )


class Diagnosis:
    """Interprets errors, and puts them into words.

    Parameters:
        meaning: returns what an error means for the node it came from.
    """

    def __init__(self, meaning: Callable[[BaseException], Meaning]) -> None:
        self.meaning = meaning

    def has_no_connection(self, exc: BaseException) -> bool:
        """Return whether the error means that there is no connection, or that it was lost."""
        return self.meaning(exc) in NO_CONNECTION

    def is_not_opened(self, exc: BaseException) -> bool:
        """Return whether the error means that a connection could not be opened."""
        return self.meaning(exc) in NOT_OPENED

    def ejects(self, node: Node, exc: BaseException) -> bool:
        """Return whether this error, raised while connecting, ejects the node."""
        return ejects(self.meaning(exc), in_use=node.has_connections())

    def bars(self, exc: BaseException) -> bool:
        """Return whether this error, raised while connecting, will meet the next attempt too."""
        return isinstance(exc, PeeweeException) and TREATMENTS[self.meaning(exc)].node != "back off"

    def refuses(self, exc: BaseException) -> bool:
        """Return whether this error, raised while connecting, comes from a server that answers."""
        found = self.meaning(exc)
        # A host's name that cannot be looked up is a matter of configuration, too.
        return found == "not ready" or (found == "misconfigured" and number_of(exc) != CR.CR_CONN_HOST_ERROR)

    def given_up(self, exc: BaseException) -> bool:
        """Return whether the server has given up an attempt to connect, because this client was too slow."""
        return getattr(getattr(exc, "orig", exc), GIVEN_UP, False)

    def sent_nothing(self, exc: BaseException) -> bool:
        """Return whether a question of the library lost the connection before the statement was sent."""
        return getattr(getattr(exc, "orig", exc), NOTHING_SENT, False)

    def remedy(self, exc: BaseException) -> str:
        """Return a hint for the user; ``""`` if the error's own message is enough."""
        if isinstance(getattr(exc, "orig", exc), PasswordUnavailable):
            return "no fault of the node"
        return remedy(exc.args[0] if exc.args else None, self.meaning(exc), system_failure(exc))

    def cause(self, exc: BaseException) -> str:
        """Return the error's class and message, with the remedy."""
        words = self.remedy(exc)
        return in_words(exc) + (f"; {words}" if words else "")

    def name_node(self, exc: BaseException, label: str) -> None:
        """Add the node's name and the remedy to an error that means there is no connection to it."""
        if self.has_no_connection(exc):
            exc.args = explained(exc.args, label, self.remedy(exc))

    def reasons(self, tried: dict[Node, BaseException], others: str) -> str:
        """Return in words why no replica can serve a read.

        Parameters:
            tried: the replicas just tried, with their errors.
            others: why the other replicas are out of rotation, in words.
        """
        return "; ".join(text for text in (*self._each(tried), others) if text)

    def _each(self, tried: dict[Node, BaseException]) -> Iterable[str]:
        for replica, exc in tried.items():
            words = self.remedy(exc)
            yield f"{replica.label}: {in_words(exc)}" + (f"; {words}" if words else "")


def nobody_serves(reasons: str, exc: BaseException, kind: type[OperationalError]) -> OperationalError:
    """Return the error to raise when the primary cannot be reached, and no replica can serve a read.

    Parameters:
        reasons: why no replica can serve a read.
        exc: the primary's error, which names it.
        kind: the class of the error to raise.
    """
    # Replicas may well answer: they may be behind, or ejected by hand.
    return kind(*exc.args[:-1], f"no node can serve a read: {reasons}; {exc.args[-1]}")
