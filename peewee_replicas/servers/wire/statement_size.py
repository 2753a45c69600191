"""The size of a statement, and the server's limit for it: ``max_allowed_packet``.

A server that gets a larger statement ends the session, and with it the user's transaction. So a large
statement is measured before it is sent. No I/O.
"""

from __future__ import annotations

from pymysql import err
from pymysql.constants import ER

LARGE = 1 << 20
"""The size in bytes from which it is worth asking the server for its limit."""

MAY_BE_LARGE = LARGE // 4
"""A text of this many characters or more may have that size, because a character can take four bytes."""


def statement_size(sql: str | bytes, encoding: str) -> int:
    """Return the length of a statement on the wire, in bytes."""
    return 1 + len(sql.encode(encoding) if isinstance(sql, str) else sql)


class SizeLimit:
    """The limit of one connection's server.

    Attributes:
        bytes: the limit; None until it was asked for, and 0 if asking failed, so that the server itself will
            refuse what is too large.
    """

    __slots__ = ("bytes",)

    QUESTION = "SHOW VARIABLES LIKE 'max_allowed_packet'"

    def __init__(self) -> None:
        self.bytes: int | None = None

    def exceeded(self, size: int, outcome: str) -> err.OperationalError:
        """Return the error for a statement of `size` bytes: 1153, as the server would send it.

        Parameters:
            outcome: what became of the statement, in words.
        """
        limit = f"the limit is {self.bytes:,}" if self.bytes else "the server's limit is lower"
        return err.OperationalError(
            ER.NET_PACKET_TOO_LARGE,
            "Got a packet bigger than 'max_allowed_packet' bytes: "
            f"the statement has {size:,} bytes, {limit}; {outcome}",
        )
