"""`ReplicasInstrumentor` on servers, in both forms: the parent, the node's address, and a server's error."""

from __future__ import annotations

from typing import Any

import peewee
import pytest
from support.clusters.lagging import Slot, bound, n_of

pytest.importorskip("opentelemetry.sdk", reason="the extra `test` has it")

from support.tracing.collected import instrumented

pytestmark = pytest.mark.usefixtures("form")


def test_each_statement_is_a_span_under_the_programs_own(pair: Any, server: str) -> None:
    with instrumented() as collected, bound(pair) as db:
        collected.spans()
        with collected.tracer.start_as_current_span("request") as request:
            n_of()
            with pytest.raises(peewee.IntegrityError), db.atomic():
                Slot.create(name="a")
        spans = [span for span in collected.spans() if span.parent is not None]
    told = {span.attributes["db.operation.name"]: span for span in spans}
    assert list(told) == ["SELECT", "BEGIN", "INSERT", "ROLLBACK"]
    assert {span.parent.span_id for span in spans} == {request.get_span_context().span_id}
    assert {span.attributes["db.system.name"] for span in spans} == {server}
    replica = pair.replicas[0]
    assert told["SELECT"].attributes["server.address"] == replica.host
    assert told["SELECT"].attributes["server.port"] == replica.port
    assert told["INSERT"].attributes["server.port"] == pair.primary.port
    assert told["INSERT"].attributes["db.response.status_code"] == "1062"
