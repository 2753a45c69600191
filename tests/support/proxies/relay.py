"""A TCP relay on loopback that delays traffic, and counts round trips between clients and a server."""

from __future__ import annotations

import queue
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Any


class Counted:
    """What went from the clients to the server since `Relay.reset`.

    Attributes:
        sends: pieces of data that arrived here one after the other from a client.
        packets: protocol packets in them; a statement is one, so is a login.
        turns: how often a client spoke after the server had: one turn is one round trip.
    """

    def __init__(self) -> None:
        self.sends = 0
        self.packets = 0
        self.turns = 0

    def __repr__(self) -> str:
        return f"<{self.sends} sends, {self.packets} packets, {self.turns} turns>"


class Relay:
    """Leads from a port of its own to a server; a context manager.

    Parameters:
        port: the server's, on loopback.
        at: the address on loopback and the port where it listens; 0: any port.
        to_server: seconds by which everything is late on its way to the server.
        to_client: the same for the way back.
    """

    def __init__(
        self, port: int, *, at: tuple[str, int] = ("127.0.0.1", 0), to_server: float = 0.0,
        to_client: float = 0.0,
    ) -> None:  # fmt: skip
        self._target: tuple[str, int] | str = ("127.0.0.1", port)
        self.to_server = to_server
        self.to_client = to_client
        self.counted = Counted()
        self._listener = socket.create_server(at)
        self.port: int = self._listener.getsockname()[1]
        self._conversations: list[_Conversation] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._closing = False
        self._losing = False

    def __enter__(self) -> Relay:
        self._accepting = self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing = True
        # Closing a listener does not wake the thread in accept(); shutting it down does.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join(10)
        self._listener.close()
        self.drop()
        for thread in self._threads:
            thread.join(10)

    def reset(self) -> None:
        """Start counting from zero."""
        with self._lock:
            self.counted = Counted()

    def drop(self) -> None:
        """Cut all connections, and count nothing more of what they have sent."""
        with self._lock:
            conversations, self._conversations = self._conversations, []
        for conversation in conversations:
            conversation.end()

    def lose_answer(self) -> None:
        """Drop the next answer of the server, and cut the connection."""
        self._losing = True

    def lead_to(self, place: int | str) -> None:
        """Send new connections to another server. Open ones stay where they are.

        Parameters:
            place: the server's port, or the path of its Unix socket.
        """
        self._target = ("127.0.0.1", place) if isinstance(place, int) else place

    def _connect(self) -> socket.socket:
        if isinstance(self._target, tuple):
            return socket.create_connection(self._target)
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._target)
        return server

    def _run(self, work: object, *args: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()
        return thread

    def _forget(self, conversation: _Conversation) -> None:
        with self._lock:
            if conversation in self._conversations:
                self._conversations.remove(conversation)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._connect()
            except OSError:
                client.close()
                continue
            conversation = _Conversation(self, client, server)
            with self._lock:
                self._conversations.append(conversation)
            for sock in (client, server):
                if sock.family != socket.AF_UNIX:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._run(conversation.carry, client, server, True)
            self._run(conversation.carry, server, client, False)
            if self._closing:
                self.drop()


class _Conversation:
    """The connection of one client to the server."""

    def __init__(self, relay: Relay, client: socket.socket, server: socket.socket) -> None:
        self._relay = relay
        self._sockets = (client, server)
        self._over = threading.Event()
        self._client_spoke = True  # the server greets first
        self._missing = 0  # bytes of a packet that are still to come
        self._header = b""
        self._carrying = 2
        self._lock = threading.Lock()

    def end(self) -> None:
        """Cut the connection, and drop what is still on its way."""
        self._over.set()
        for sock in self._sockets:
            # Only the last thread that uses them closes them: the number of a closed one may be another's at
            # once, such as of the client's next connection, and a thread here would take what arrives there.
            with suppress(OSError):  # the other end was quicker
                sock.shutdown(socket.SHUT_RDWR)

    def carry(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        waiting: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        sender = threading.Thread(target=self._send, args=(waiting, target), daemon=True)
        sender.start()
        while True:
            try:
                data = source.recv(1 << 16)
            except OSError:
                data = b""
            if data and not from_client and self._relay._losing:
                self._relay._losing = False
                self.end()
                data = b""
            late = self._relay.to_server if from_client else self._relay.to_client
            if data:
                self._count(data, from_client)  # before the other side can answer
            waiting.put((time.perf_counter() + late, data))
            if not data:
                break
        sender.join()
        with self._lock:
            self._carrying -= 1
        if not self._carrying:  # neither side has more to say: keep no sockets, where clients come and go
            self._relay._forget(self)
            for sock in self._sockets:
                sock.close()

    def _send(self, waiting: queue.SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
        while True:
            due, data = waiting.get()
            left = due - time.perf_counter()
            if left > 0 and self._over.wait(left):
                return
            try:
                if not data:
                    target.shutdown(socket.SHUT_WR)
                    return
                target.sendall(data)
            except OSError:
                return

    def _count(self, data: bytes, from_client: bool) -> None:
        relay = self._relay
        with relay._lock:
            if from_client and not self._over.is_set():
                relay.counted.sends += 1
                relay.counted.packets += self._packets(data)
                relay.counted.turns += not self._client_spoke
            self._client_spoke = from_client

    def _packets(self, data: bytes) -> int:
        """The number of packets that begin in this piece of data, which must not be encrypted."""
        found = 0
        while data:
            if self._missing:
                taken = min(self._missing, len(data))
                self._missing -= taken
                data = data[taken:]
                continue
            self._header, data = (self._header + data)[:4], data[4 - len(self._header) :]
            if len(self._header) == 4:
                found += 1
                self._missing = int.from_bytes(self._header[:3], "little")
                self._header = b""
        return found


_MOVE = {
    "mariadb": ("STOP SLAVE", "CHANGE MASTER TO MASTER_PORT = %s", "START SLAVE"),
    "mysql": ("STOP REPLICA", "CHANGE REPLICATION SOURCE TO SOURCE_PORT = %s", "START REPLICA"),
}


def replicate_through(relay: Relay, cluster: Any) -> None:
    """Put a relay between every replica of a cluster and its primary."""
    stop, move, start = _MOVE[cluster.server]
    for node in cluster.replicas:
        node.execute(stop)
        node.execute(move, (relay.port,))
        node.execute(start)
    cluster.sync()
