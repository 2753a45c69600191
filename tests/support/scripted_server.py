"""A server that speaks just enough of MySQL's protocol to be rude in it.

It greets, lets everybody in and answers each command with what a script says: well-formed packets, packets
that no server should send, bytes that trickle, silence, a goodbye that nobody asked for. By default it is a
quiet MariaDB on which every statement succeeds.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any

from pymysql.constants import CLIENT, SERVER_STATUS
from support.proxies.saboteur import Listener, error_packet

from peewee_replicas.servers.wire.connection import Connection

AUTOCOMMIT = SERVER_STATUS.SERVER_STATUS_AUTOCOMMIT
CHANGED = 1 << 14
"""The status that announces session trackers."""

OFFERED = (
    CLIENT.CAPABILITIES | CLIENT.PLUGIN_AUTH | CLIENT.CONNECT_ATTRS | CLIENT.CONNECT_WITH_DB
    | CLIENT.MULTI_RESULTS | CLIENT.SESSION_TRACK | CLIENT.DEPRECATE_EOF
)  # fmt: skip
"""What the greeting offers unless told otherwise."""

VERSION = "10.11.6-MariaDB"


# Packets. A payload is what one packet carries, without its header.


def packets(*payloads: bytes, first: int = 1) -> bytes:
    """Payloads with their headers, numbered from `first` on."""
    return b"".join(
        len(payload).to_bytes(3, "little") + bytes([(first + number) % 256]) + payload
        for number, payload in enumerate(payloads)
    )


def length(value: int) -> bytes:
    """A length-encoded integer."""
    if value < 0xFB:
        return bytes([value])
    for first, size in ((0xFC, 2), (0xFD, 3), (0xFE, 8)):
        if value < 1 << (8 * size):
            return bytes([first]) + value.to_bytes(size, "little")
    raise ValueError(value)


def text(value: bytes) -> bytes:
    """A length-encoded string."""
    return length(len(value)) + value


def trackers(*found: tuple[int, bytes], info: bytes = b"") -> bytes:
    """The tail of an OK packet with session trackers, each ``(type, payload)``."""
    return text(info) + text(b"".join(bytes([kind]) + text(payload) for kind, payload in found))


def last_gtid(gtid: bytes) -> bytes:
    """The tail with which MariaDB reports a position."""
    return trackers((0, text(b"last_gtid") + text(gtid)))


def ok(
    affected: int = 0, row_id: int = 0, *, status: int = AUTOCOMMIT, tail: bytes = b"", header: int = 0
) -> bytes:
    """The payload of an OK packet; `header` 0xFE makes it the end of a result under DEPRECATE_EOF."""
    return bytes([header]) + length(affected) + length(row_id) + struct.pack("<HH", status, 0) + tail


def eof(status: int = AUTOCOMMIT) -> bytes:
    """The payload of an EOF packet, as it was before DEPRECATE_EOF."""
    return b"\xfe" + struct.pack("<HH", 0, status)


def error(number: int, words: str = "refused", *, first: int = 1, state: str = "HY000") -> bytes:
    """An error packet, with its header."""
    return error_packet(number, words, sequence=first, state=state)


def column(name: bytes = b"n", kind: int = 253) -> bytes:
    """The payload of a column's description; `kind` is 253 for text, 3 for a number."""
    names = (b"def", b"app", b"t", b"t", name, name)
    return b"".join(map(text, names)) + struct.pack("<BHIBHBxx", 12, 45, 80, kind, 0, 0)


def row(*values: bytes | None) -> bytes:
    """The payload of a row."""
    return b"".join(b"\xfb" if value is None else text(value) for value in values)


def result(
    *rows: bytes, columns: int = 1, old: bool = False, tail: bytes = b"", status: int = AUTOCOMMIT
) -> bytes:
    """A whole result, with headers; `old`: with EOF packets, as without DEPRECATE_EOF."""
    described = [length(columns), *(column(b"n%d" % number) for number in range(columns))]
    if old:
        return packets(*described, eof(status), *rows, eof(status))
    return packets(*described, *rows, ok(status=status, tail=tail, header=0xFE))


def greeting(
    version: str = VERSION, *, offered: int = OFFERED, plugin: bytes = b"mysql_native_password"
) -> bytes:
    """The payload with which a server begins."""
    salt = bytes(range(1, 21))
    return b"".join((
        b"\x0a", version.encode(), b"\0", struct.pack("<I", 7), salt[:8], b"\0",
        struct.pack("<HBHH", offered & 0xFFFF, 45, AUTOCOMMIT, offered >> 16), bytes([21]), bytes(10),
        salt[8:], b"\0", plugin, b"\0",
    ))  # fmt: skip


# Answers. What is no bytes is called with the client's socket.

Answer = bytes | Callable[[socket.socket], None]


def silence(client: socket.socket) -> None:
    """Say nothing until the client goes."""
    with suppress(OSError):
        while client.recv(4096):
            pass


def hang_up(client: socket.socket) -> None:
    """End the connection."""
    client.shutdown(socket.SHUT_RDWR)


def both(*answers: Answer) -> Answer:
    """One answer after the other."""

    def say(client: socket.socket) -> None:
        for answer in answers:
            give(client, answer)

    return say


def trickle(data: bytes, every: float = 0.05) -> Answer:
    """Byte by byte, with a pause in seconds before each."""

    def say(client: socket.socket) -> None:
        for at in range(len(data)):
            client.settimeout(every)
            try:
                if client.recv(1, socket.MSG_PEEK) == b"":
                    return  # the client has given up
            except TimeoutError:
                pass
            client.settimeout(None)
            client.sendall(data[at : at + 1])

    return say


def give(client: socket.socket, answer: Answer) -> None:
    """Send an answer."""
    if isinstance(answer, bytes):
        client.sendall(answer)
    else:
        answer(client)


class ScriptedServer(Listener):
    """The server; a context manager.

    Parameters:
        answers: answers to statements that begin with a text, in place of the usual one.
        greets: the answer to a client that has just come.
        lets_in: the answer to its authentication, or to its request for TLS.
        usual: the answer to every other statement.
        others: the answer to what is no statement: a ping, a change of schema.
        limit: ``max_allowed_packet`` in bytes.
        version, offered: what is told in the usual greeting.
        reports: whether it answers the settings that turn session trackers on with a report, as servers do.

    Attributes:
        statements: the texts of all statements, in order.
        clients: how many have come.
        answers: as given; may be changed while it runs.
    """

    def __init__(
        self,
        answers: dict[str, Answer] | None = None,
        *,
        greets: Answer | None = None,
        lets_in: Answer | None = None,
        usual: Answer | None = None,
        others: Answer | None = None,
        limit: int = 1 << 24,
        version: str = VERSION,
        offered: int = OFFERED,
        reports: bool = True,
    ) -> None:
        super().__init__()
        self.answers = dict(answers or {})
        self.statements: list[str] = []
        self.clients = 0
        self._greets = packets(greeting(version, offered=offered), first=0) if greets is None else greets
        self._lets_in = packets(ok(), first=2) if lets_in is None else lets_in
        self._usual = packets(ok()) if usual is None else usual
        self._others = packets(ok()) if others is None else others
        self._limit = limit
        self._reports = reports and usual is None and bool(offered & CLIENT.SESSION_TRACK)

    @property
    def parameters(self) -> dict[str, Any]:
        """What a client has to be given to come here."""
        return {"host": "127.0.0.1", "port": self.port, "user": "app", "password": "", "database": "app"}

    def since(self, mark: int) -> list[str]:
        """The statements after so many."""
        return self.statements[mark:]

    def serve(self, client: socket.socket) -> None:
        """Talk to one client until it goes."""
        self.clients += 1
        with suppress(OSError), client:
            give(client, self._greets)
            if self._packet(client) is None:
                return
            give(client, self._lets_in)
            while command := self._packet(client):
                self._answer(client, command)

    def _answer(self, client: socket.socket, command: bytes) -> None:
        if command[:1] == b"\x01":  # COM_QUIT
            hang_up(client)
            return
        if command[:1] != b"\x03":  # a ping, a change of schema
            give(client, self._others)
            return
        statement = command[1:].decode("utf8", "replace")
        self.statements.append(statement)
        known = sorted(filter(statement.startswith, self.answers), key=len)
        if not known and self._reports and "session_track_" in statement:
            give(client, packets(ok(status=AUTOCOMMIT | CHANGED, tail=trackers((2, text(b"1"))))))
        else:
            give(client, self.answers[known[-1]] if known else self._usual)

    def _packet(self, client: socket.socket) -> bytes | None:
        found = b""
        while True:
            header = _exactly(client, 4)
            size = int.from_bytes(header[:3], "little")
            if len(found) + size > self._limit:
                # As real servers do: they have read no more than the header.
                client.sendall(
                    error(1153, "Got a packet bigger than 'max_allowed_packet' bytes", state="08S01")
                )
                hang_up(client)
                return None
            found += _exactly(client, size)
            if size < 0xFFFFFF:
                return found


def _exactly(client: socket.socket, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        data = client.recv(min(size - len(found), 1 << 16))
        if not data:
            raise ConnectionResetError
        found += data
    return bytes(found)


def prefixes(data: bytes) -> Iterable[bytes]:
    """Each beginning of an answer that is not the whole of it."""
    return takewhile(lambda part: len(part) < len(data), (data[:end] for end in range(len(data) + 1)))


@contextmanager
def opening(form: str) -> Iterator[Callable[..., Any]]:
    """A function that opens a connection to a server, in a form of the library; all are closed at the end."""
    opened: list[Any] = []

    def connect(server: ScriptedServer, **options: Any) -> Any:
        made: Any
        if form == "asyncio":
            from peewee_replicas.aio.connection import Connection as AsyncConnection

            made = AsyncConnection(defer_connect=True, **server.parameters, **options)
        else:
            made = Connection(defer_connect=True, autocommit=True, **server.parameters, **options)
        opened.append(made)
        made.connect()
        return made

    yield connect
    for made in opened:
        if made.open:
            made.close()
