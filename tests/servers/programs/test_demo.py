"""The demo does what it says, and notices when the library does not."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from demo import command, on_servers
from support.clusters import require

from peewee_replicas.testing import LocalCluster, MissingServer

STAGES = ("threads", "readonly()", "atomic()", "kill -9", "return")


EXAMPLES = Path(__file__).parents[3] / "examples"


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(EXAMPLES), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


def run(*options: str) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "demo", *options]
    return subprocess.run(arguments, env=environment(), capture_output=True, text=True, timeout=120)


def table(text: str) -> dict[str, list[int]]:
    """The closing table's numbers, by node: writes, then the reads of each stage."""
    lines = text[text.index("What the ") :].split("\n\n")[1].splitlines()
    rule = next(number for number, line in enumerate(lines) if line.startswith("---"))
    rows = [line.split() for line in lines[rule + 1 :] if not line.startswith(" ")]
    numbers = {row[0]: [int(cell) for cell in row if cell.isdecimal()] for row in rows}
    numbers["asked"] = numbers.pop("the")
    return numbers


def check_layout(text: str) -> None:
    assert "\x1b" not in text  # no terminal, no colour
    assert max(map(len, text.splitlines())) <= 100


def test_it_runs_on_real_servers_and_its_table_holds(server: str) -> None:
    require(server)
    done = run("--server", server)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "FAIL" not in done.stdout
    assert "7 of 7 checks passed" in done.stdout
    assert "ReadOnlyViolation: a write statement is not allowed inside readonly()" in done.stdout
    assert "ejected" in done.stdout
    assert "restored" in done.stdout
    check_layout(done.stdout)
    rows = table(done.stdout)
    assert list(rows) == ["primary", "replica-1", "replica-2", "replica-3", "asked"]
    assert all(len(rows[node]) == 1 + len(STAGES) for node in list(rows)[:-1])
    asked = rows["asked"]
    assert rows["primary"] == [41, 0, 0, asked[2], 0, 0]
    for node in ("replica-1", "replica-2", "replica-3"):
        assert rows[node][0] == 0
        # Each of the four threads asks once whether a replica has what was written before.
        assert asked[0] // 3 <= rows[node][1] <= asked[0] // 3 + 4
        assert rows[node][4] > 0
        assert rows[node][5] > 0
    in_scope = [rows[node][2] for node in ("replica-1", "replica-2", "replica-3")]
    assert sorted(in_scope) == [0, 0, asked[1]]


def test_the_number_of_replicas_can_be_chosen() -> None:
    require("mariadb")
    done = run("--replicas", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(table(done.stdout)) == ["primary", "replica-1", "replica-2", "asked"]
    for wrong in ("1", "0", "-3", "many"):
        refused = run(f"--replicas={wrong}")
        assert refused.returncode == 2
        assert "a number from 2 to 9" in refused.stderr


def test_without_a_server_it_shows_what_sqlite_can_and_says_so() -> None:
    done = run("--sqlite")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "THIS IS SQLITE" in done.stdout
    assert "routing around a dead replica is NOT shown" in done.stdout
    assert "5 of 5 checks passed" in done.stdout
    check_layout(done.stdout)
    rows = table(done.stdout)
    assert list(rows) == ["primary", "reader-1", "reader-2", "reader-3", "asked"]
    assert rows["primary"][:3] == [41, 0, 0]
    assert [rows[f"reader-{n}"][:2] for n in (1, 2, 3)] == [[0, 200]] * 3


def test_it_fails_when_reads_are_not_routed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("mariadb")
    unrouted = LocalCluster.database
    monkeypatch.setattr(LocalCluster, "database", lambda cluster: unrouted(cluster, reads="primary"))
    assert command.main([]) == 1
    told = capsys.readouterr().out
    assert "FAIL  600 reads from 4 threads: 600 on the primary" in told
    assert "checks passed" in told


def test_it_fails_when_a_stage_raises(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    require("mariadb")

    def broken(demo: on_servers.ServerDemo) -> None:
        demo.show_writes()
        raise OSError("the disk is full")

    monkeypatch.setattr(on_servers.ServerDemo, "run", broken)
    assert command.main(["--replicas", "2"]) == 1
    told = capsys.readouterr()
    assert "FAIL  the demo came to its end: OSError: the disk is full" in told.out
    assert "Traceback" in told.err


def test_a_missing_server_is_said_with_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(_: LocalCluster) -> None:
        raise MissingServer("MySQL is not on this machine; get it from your distribution")

    monkeypatch.setattr(LocalCluster, "start", missing)
    assert command.main(["--server", "mysql"]) == 2
    told = capsys.readouterr()
    assert "MySQL is not on this machine" in told.err
    assert "--sqlite" in told.err


def test_a_terminal_gets_colour_unless_it_asks_for_none() -> None:
    program = (
        "import sys\n"
        "from demo.screen import Screen\n"
        "screen = Screen(sys.stdout)\n"
        "screen.check(True, 'holds')\n"
        "screen.check(False, 'does not')\n"
        "sys.exit(screen.result())\n"
    )
    plain = {name: value for name, value in environment().items() if name != "NO_COLOR"}
    for extra, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        ours, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, "-c", program], stdout=theirs, env={**plain, **extra}
        ) as process:
            process.wait(60)
        os.close(theirs)
        told = os.read(ours, 65536).decode()
        os.close(ours)
        assert process.returncode == 0, "a failed check must not count as success"
        assert ("\x1b[32mPASS" in told) is coloured
        assert ("\x1b[31mFAIL" in told) is coloured
        assert "1 of 2 checks passed" in told
