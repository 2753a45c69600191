"""Two primaries with the same server id, host name and port, as in containers, keep their histories apart.

A server's UUID or uid, if it reports one, tells them apart. Without one they count as one server reached by
two addresses: reads of each wait for what was written to the other.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from peewee_replicas.consistency.process_history import process_history
from peewee_replicas.servers.identity import name_among_all

ALIKE = {"server_id": "1", "hostname": "db", "port": "3306"}
UUIDS = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({**ALIKE, "server_uuid": UUIDS[0]}, {**ALIKE, "server_uuid": UUIDS[1]}, False),
        ({**ALIKE, "server_uuid": UUIDS[0]}, {**ALIKE, "server_uuid": UUIDS[0]}, True),
        ({**ALIKE, "server_uid": "a"}, {**ALIKE, "server_uid": "b"}, False),
        ({**ALIKE, "server_uid": "a"}, {**ALIKE, "server_uid": "a"}, True),
        ({**ALIKE, "server_uid": "unknown"}, {**ALIKE, "server_uid": "unknown", "port": "3307"}, False),
        (ALIKE, ALIKE, True),
        (ALIKE, {**ALIKE, "server_id": "2"}, False),
        ({}, {}, False),  # a proxy may show nothing
    ],
)
def test_histories_are_shared_by_one_server_only(
    one: Mapping[str, str], other: Mapping[str, str], same: bool
) -> None:
    histories = [process_history(endpoint) for endpoint in ("a:3306", "b:3306")]
    for history, variables in zip(histories, (one, other), strict=True):
        history.primary_told(None, 0.0, name_among_all(variables))
    assert [len(history.sessions()) for history in histories] == ([2, 2] if same else [1, 1])
