"""A cursor that outlives its connection is closed like any other, though rows of it were never read."""

from __future__ import annotations

import pytest
from pymysql.cursors import SSCursor
from support.scripted_server import ScriptedServer, column, eof, opening, packets, row

UNFINISHED = packets(b"\x01", column(), eof(), row(b"1"))


@pytest.mark.parametrize("end", ["close", "_force_close"])
def test_a_cursor_with_unread_rows_is_closed_after_its_connection(end: str) -> None:
    with ScriptedServer({"SELECT": UNFINISHED}) as server, opening("threads") as connect:
        conn = connect(server)
        cursor = conn.cursor(SSCursor)
        cursor.execute("SELECT n FROM t")
        assert cursor.fetchone() == ("1",)
        getattr(conn, end)()
        cursor.close()
        assert cursor.connection is None
