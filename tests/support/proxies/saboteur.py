"""Stands between client and server, and spoils one statement or refuses the client."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any


def error_packet(number: int, text: str, *, sequence: int, state: str = "") -> bytes:
    """An error packet. Before the handshake, it has no SQLSTATE."""
    body = b"\xff" + struct.pack("<H", number) + (b"#" + state.encode() if state else b"") + text.encode()
    return len(body).to_bytes(3, "little") + bytes([sequence]) + body


class Listener:
    """Listens on its own port on loopback and hands each client to `serve`. A context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Any:
        self._accepting = self.run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wake(self._listener)
        self._accepting.join(10)
        self._listener.close()
        self.wake(*self._sockets)
        for thread in self._threads:
            thread.join(10)

    def run(self, work: Any, *args: Any) -> threading.Thread:
        """Run a function in a new thread."""
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def wake(self, *sockets: socket.socket) -> None:
        """Cut connections, and wake those who wait on them."""
        for sock in sockets:
            with suppress(OSError):  # the other end was quicker
                sock.shutdown(socket.SHUT_RDWR)

    def end(self, *sockets: socket.socket) -> None:
        """Cut connections, and close their sockets, which no other thread may use any more.

        The number of a closed socket may be another's at once, such as of the client's next connection, and
        a thread that still used it here would take what arrives there.
        """
        self.wake(*sockets)
        for sock in sockets:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._sockets.append(client)
            self.run(self.serve, client)

    def serve(self, client: socket.socket) -> None:
        """Serve one client."""
        raise NotImplementedError


class Doorman(Listener):
    """Refuses each client before the handshake, as a server does that has no place or does not know it.

    Parameters:
        number, text: the error.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__()
        self.packet = error_packet(number, text, sequence=0)
        self.refused = 0

    def serve(self, client: socket.socket) -> None:
        """Refuse the client."""
        self.refused += 1
        with suppress(OSError):
            client.sendall(self.packet)
            client.recv(1)  # until it has gone
        self.end(client)


class Saboteur(Listener):
    """Leads to a server, and spoils what it was told to; right for connections without TLS.

    Parameters:
        port: the server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self._target = ("127.0.0.1", port)
        self._plans: list[tuple[bytes, str, bytes]] = []
        self._refusal = b""
        self._over = threading.Event()
        self.die_after_cut = False  # whether the server seems to have died with a connection that was cut
        self.spoiled = 0
        self.refused = 0

    def __exit__(self, *error: Any) -> None:
        self._over.set()
        super().__exit__(*error)

    def refuse(self, number: int, text: str = "not you") -> None:
        """Refuse each further client before the handshake with this error; 0: none any more."""
        self._refusal = error_packet(number, text, sequence=0) if number else b""

    def answer(self, marker: str, number: int, text: str = "spoiled", *, state: str = "HY000") -> None:
        """Answer the next statement that contains `marker` with this error; the server never sees it."""
        self._plans.append((marker.encode(), "answer", error_packet(number, text, sequence=1, state=state)))

    def cut(self, marker: str, when: str) -> None:
        """Cut the connection ``"before"`` the server sees the next such statement, or ``"after"`` it has
        executed it and before the client hears of that."""
        self._plans.append((marker.encode(), when, b""))

    def hold(self, marker: str) -> None:
        """From the next such statement on, let nothing more through on its connection, and say nothing."""
        self._plans.append((marker.encode(), "hold", b""))

    def delay(self, marker: str, seconds: float) -> None:
        """Let the next such statement go on its way only after so many seconds."""
        self._plans.append((marker.encode(), "delay", str(seconds).encode()))

    def _plan_for(self, data: bytes) -> tuple[str, bytes] | None:
        for plan in self._plans:
            if plan[0] in data:
                self._plans.remove(plan)
                self.spoiled += 1
                return plan[1:]
        return None

    def serve(self, client: socket.socket) -> None:
        """Connect the client to the server."""
        if self._refusal:
            self.refused += 1
            with suppress(OSError):
                client.sendall(self._refusal)
                client.recv(1)  # until it has gone
            self.end(client)
            return
        try:
            server = socket.create_connection(self._target)
        except OSError:
            self.end(client)
            return
        self._sockets.append(server)
        mute, answered = threading.Event(), threading.Event()
        back = self.run(self._back, server, client, mute, answered)
        try:
            self._forth(client, server, mute, answered)
        finally:
            self.wake(client, server)
            back.join()
            client.close()
            server.close()

    def _forth(
        self, client: socket.socket, server: socket.socket, mute: threading.Event, answered: threading.Event
    ) -> None:
        while True:
            try:
                data = client.recv(1 << 16)
            except OSError:
                return
            plan = self._plan_for(data) if data else None
            if not data or (plan is not None and plan[0] == "before"):
                if data and self.die_after_cut:
                    self.refuse(1053)
                return
            if plan is not None and plan[0] == "answer":
                with suppress(OSError):  # the client has gone
                    client.sendall(plan[1])
                continue
            if plan is not None and plan[0] == "hold":
                mute.set()
                with suppress(OSError):
                    while client.recv(1 << 16):
                        pass
                return
            if plan is not None and plan[0] == "delay":
                self._over.wait(float(plan[1]))
                plan = None
            if plan is not None:
                mute.set()
            with suppress(OSError):
                server.sendall(data)
            if plan is not None:
                answered.wait(20)
                return

    def _back(
        self, server: socket.socket, client: socket.socket, mute: threading.Event, answered: threading.Event
    ) -> None:
        while True:
            try:
                data = server.recv(1 << 16)
                if mute.is_set():
                    answered.set()
                elif data:
                    client.sendall(data)
            except OSError:
                data = b""
            if not data:
                self.wake(client)
                return
