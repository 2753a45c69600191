"""`docs/troubleshooting.md`: every name on it is one that the command, the log or the counters use.

The page quotes codes of the doctor, events of the log, counters and causes; a name that is renamed in the
code would send a reader on a search for what does not exist.
"""

from __future__ import annotations

import re
import subprocess
import sys

from support.pages import ROOT

from peewee_replicas import ReplicatedDatabase, log
from peewee_replicas.cli import findings
from peewee_replicas.events import CAUSES

TEXT = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")


def quoted(after: str) -> set[str]:
    """The names in backticks that follow a word, up to the end of the clause."""
    return {
        name
        for clause in re.findall(rf"(?<!\w){after}:? ((?:(?:, | or | and )?`[^`]+`)+)", TEXT)
        for name in re.findall(r"`([^`]+)`", clause)
    }


def test_the_codes_of_the_doctor_exist() -> None:
    with open(findings.__file__, encoding="utf-8") as file:
        known = set(re.findall(r'Finding\(\s*"([a-z-]+)"', file.read()))
    told = quoted("`doctor`") | quoted("`doctor` says")
    assert len(told) > 5
    assert told <= known


def test_the_events_of_the_log_exist() -> None:
    assert {"no_gtids", "session_state", "position_lost"} <= quoted("log")
    assert quoted("log") <= set(log.EVENTS)


def test_the_counters_and_causes_exist() -> None:
    known = set(ReplicatedDatabase("app", replicas=["a.db"]).stats())
    told = quoted("counters?")
    assert len(told) > 6
    assert told <= known
    assert quoted("`explain`") <= set(CAUSES)
    assert {"unproven", "setting", "on_primary"} <= quoted("`explain`")


def test_a_program_without_logging_says_nothing_and_basic_config_is_enough() -> None:
    program = (
        "import logging, sys\n"
        "from peewee_replicas import ReplicatedDatabase\n"
        "if len(sys.argv) > 1: logging.basicConfig()\n"
        "ReplicatedDatabase('app', replicas=['a.db']).replicas[0].eject('an example')\n"
    )

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    assert said() == ""
    assert "an example" in said("logging")
