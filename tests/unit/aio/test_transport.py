"""The stream under a connection of the asyncio form: what came before it, and what never comes."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiomysql.connection import _open_connection
from playhouse.pwasyncio import greenlet_spawn

from peewee_replicas.aio.transport import Stream


async def streaming(talk: Callable[[Any], None], ready: Callable[[Any], bool]) -> Stream:
    """A stream to a server that has done `talk`, taken over once `ready` holds of what read it before."""
    listener = socket.create_server(("127.0.0.1", 0))
    with listener:
        reader, writer = await _open_connection(*listener.getsockname())
        server, _ = listener.accept()
        with server:
            talk(server)
            while not ready(reader):
                await asyncio.sleep(0)
    return Stream(reader, writer)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def test_bytes_received_before_the_stream_took_over_are_kept() -> None:
    async def work() -> None:
        stream = await streaming(lambda server: server.sendall(b"early"), lambda reader: reader._buffer)
        assert await greenlet_spawn(stream.read, 5) == b"early"
        stream.close()
        await stream.lost

    run(work)


def test_an_end_received_before_the_stream_took_over_is_noticed() -> None:
    async def work() -> None:
        stream = await streaming(
            lambda server: server.shutdown(socket.SHUT_WR), lambda reader: reader.eof_received
        )
        assert await greenlet_spawn(stream.read, 4) == b""
        with pytest.raises(OSError, match="closed"):
            stream.sendall(b"question")
        stream.close()
        await stream.lost

    run(work)


def test_a_server_that_does_not_answer_is_given_up() -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            stream = Stream(*await _open_connection(*listener.getsockname()))
            asyncio.get_running_loop().call_later(0.01, stream.time_out)
            with pytest.raises(TimeoutError, match="not answered in time"):
                await greenlet_spawn(stream.read, 4)
            await stream.lost

    run(work)


def test_bytes_may_arrive_in_any_pieces() -> None:
    async def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            stream = Stream(*await _open_connection(*listener.getsockname()))
            server, _ = listener.accept()
            sent = bytes(range(256)) * 40

            async def send() -> None:
                for at in range(0, len(sent), 1000):
                    server.sendall(sent[at : at + 1000])
                    await asyncio.sleep(0)
                server.close()

            task = asyncio.create_task(send())
            found = b""
            for size in (1, 3, 4096, 100, len(sent)):
                if stream.at == len(stream.data):
                    await greenlet_spawn(stream.receive)
                assert sent[len(found) :].startswith(stream.data[stream.at :])
                found += await greenlet_spawn(stream.read, size)
            assert found == sent
            await task
            stream.close()
            await stream.lost

    run(work)
