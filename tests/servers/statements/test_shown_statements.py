"""What a procedure was given stands in no warning, no route and no event.

Members of the kind: the places where a statement that was sent, parameters included, is shown on a real
server: the warning about a changed session, the reasons of later routes, and the refusal of a raw cursor.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from peewee_replicas import RouteEvent
from peewee_replicas.errors import ReadOnlyViolation

SECRET = "hunter2"


def test_a_procedures_arguments_are_not_shown(cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    admin = cluster.database(consistency="eventual", user=cluster.admin_user)
    admin.execute_sql("DROP PROCEDURE IF EXISTS change_session")
    admin.execute_sql("CREATE PROCEDURE change_session(secret TEXT) SET SESSION group_concat_max_len = 2000")
    admin.close()
    db = cluster.database(consistency="eventual")
    events: list[RouteEvent] = []
    db.route_hooks.append(events.append)
    try:
        with caplog.at_level(logging.DEBUG, logger="peewee.replicas"):
            db.execute_sql("CALL change_session(%s)", (SECRET,))
            db.execute_sql("SELECT 1")
        shown = [record.getMessage() for record in caplog.records if record.name == "peewee.replicas"]
        reasons = [db.explain_route("SELECT 1").reason, *(event.reason for event in events)]
        assert any("CALL change_session(?)" in text for text in shown)
        assert any("CALL change_session(?)" in text for text in reasons)
        assert not [text for text in (*shown, *reasons) if SECRET in text]
    finally:
        db.close()


def test_a_refused_raw_cursors_values_are_not_shown(cluster: Any) -> None:
    db = cluster.database(consistency="eventual")
    try:
        with db.readonly():
            cursor = db.cursor()
            for text, parameters in (
                ("INSERT INTO item (name) VALUES (%s)", (SECRET,)),
                (f"SET @a = '{SECRET}'", ()),
                (f"CALL p('{SECRET}')", ()),
            ):
                with pytest.raises(ReadOnlyViolation) as caught:
                    cursor.execute(text, parameters)
                assert SECRET not in str(caught.value)
                assert "= ?" in str(caught.value) or "(?)" in str(caught.value)
    finally:
        db.close()
