"""The command line: targets, exit codes, and what is printed where no server answers.

The members of the kind are the forms of a target (path with a colon, with dots, a URL, a proxy), the ways in
which one can be wrong, and the three exit codes for each command. What the commands say of servers that
answer is in `tests/servers/cli`.
"""

from __future__ import annotations

import importlib.metadata
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from peewee import SqliteDatabase

from peewee_replicas import ReplicatedDatabase, ReplicatedDatabaseProxy, ReplicatedSqliteDatabase
from peewee_replicas.cli.command import FAILED, FOUND, OK, main
from peewee_replicas.cli.output import plain_table, print_table
from peewee_replicas.cli.target import BadTarget, find

DOWN = "mysql+replicas://app:geheim@127.0.0.1:1/shop?replica=127.0.0.1:2&connect_timeout=2"

db = ReplicatedDatabase("app", host="127.0.0.1", port=1, replicas=["127.0.0.1:2"])
plain = SqliteDatabase(None)
deferred = ReplicatedDatabase(None)
empty_proxy = ReplicatedDatabaseProxy()
proxy = ReplicatedDatabaseProxy()
proxy.initialize(db)


class Holder:
    database = db


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """This module can be imported by name, as a program's can."""
    monkeypatch.setitem(sys.modules, "shop_settings", sys.modules[__name__])


@pytest.mark.parametrize(
    "target", ["shop_settings:db", "shop_settings.db", "shop_settings:proxy", "shop_settings:Holder.database"]
)
def test_a_path_leads_to_the_database(target: str) -> None:
    assert find(target) is db


def test_a_url_makes_one() -> None:
    found = find(DOWN)
    assert isinstance(found, ReplicatedDatabase)
    assert [replica.address for replica in found.replicas] == ["127.0.0.1:2"]


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("shop_settings:nothing", "nothing"),
        ("no_such_module_at_all:db", "no_such_module_at_all"),
        ("shop_settings:plain", "SqliteDatabase is none"),
        ("shop_settings:deferred", "deferred"),
        ("shop_settings:empty_proxy", "not initialized"),
        ("", "package.module:name"),
        ("nothing://app:geheim@h/x", "the URL cannot be used"),
        ("mysql+replicas://app:geheim@h:x/x", "the URL cannot be used"),
        ("mysql+replicas://app:geheim@h/x?polcy=random", "polcy"),
        ("mysql://app:geheim@h/x", "MySQLDatabase is none"),
    ],
)
def test_a_wrong_target_is_one_line_without_a_password(
    target: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status", target]) == FAILED
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("pwreplicas: ")
    assert words in said.err
    assert said.err.count("\n") == 1
    if target.startswith("mysql+"):
        assert "geheim" not in said.err


def test_arguments_that_cannot_work_end_with_the_code_of_argparse(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (
        [],
        ["nothing"],
        ["status"],
        ["status", "x", "--timeout", "0"],
        ["doctor", "x", "--processes", "a"],
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == FAILED
    with pytest.raises(BadTarget):
        find("")
    capsys.readouterr()


def test_where_nobody_answers_each_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", DOWN, "--json"]) == FOUND
    nodes = json.loads(capsys.readouterr().out)["nodes"]
    assert [(node["node"], node["state"], node["ok"]) for node in nodes] == [
        ("primary", "down", False),
        ("127.0.0.1:2", "down", False),
    ]
    assert "2003" in nodes[0]["cause"]
    assert main(["doctor", DOWN, "--json"]) == FOUND
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert [finding["code"] for finding in findings] == ["unreachable", "unreachable"]
    assert main(["doctor", DOWN, "--topologies", "--json"]) == FOUND
    topologies = json.loads(capsys.readouterr().out)["topologies"]
    assert "chained replicas" in [row["topology"] for row in topologies]
    assert main(["doctor", DOWN, "--topologies"]) == FOUND
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("Galera ") and " works with a limit: " in line for line in lines)
    assert main(["explain", DOWN, "SELECT my_func(1)"]) == FOUND
    said = capsys.readouterr().out
    assert "cause   unproven" in said
    assert "  stop  (    <- my_func() is not known to be pure" in said
    assert "no server answered" in said


def test_a_callable_that_names_no_replicas_is_asked_once_and_its_reason_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def find_none() -> list[str]:
        asked.append(1)
        raise OSError("no such name")

    database = ReplicatedDatabase("app", host="127.0.0.1", port=1, replicas=find_none)
    monkeypatch.setattr(sys.modules[__name__], "discovering", database, raising=False)
    target = f"{__name__}:discovering"
    assert main(["status", target, "--json"]) == FOUND
    assert json.loads(capsys.readouterr().out)["undiscovered"] == "OSError: no such name"
    assert len(asked) == 1
    assert main(["status", target]) == FOUND
    assert "named no nodes: OSError: no such name" in capsys.readouterr().out
    assert main(["doctor", target, "--json"]) == FOUND
    codes = [finding["code"] for finding in json.loads(capsys.readouterr().out)["findings"]]
    assert codes == ["unreachable", "discovery"]


def test_a_file_can_be_the_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = ReplicatedSqliteDatabase(tmp_path / "f.db")
    database.execute_sql("CREATE TABLE t (n INTEGER)")
    database.close()
    target = f"sqlite+replicas:///{tmp_path}/f.db"
    assert main(["status", target]) == OK
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said[2:]] == ["primary", "reader-1", "reader-2"]
    assert main(["explain", target, "SELECT n FROM t", "--json"]) == OK
    assert json.loads(capsys.readouterr().out)["role"] == "replica"
    assert main(["explain", target, "DELETE FROM t"]) == FOUND
    assert main(["doctor", target]) == OK
    assert main(["doctor", f"sqlite+replicas:///{tmp_path}/none/f.db"]) == FOUND
    assert "[unreachable]" in capsys.readouterr().out


def test_both_ways_to_call_it_are_one() -> None:
    name, where = "pwreplicas", "peewee_replicas.cli.command:main"
    entry = importlib.metadata.EntryPoint(name, where, "console_scripts")
    assert entry.load() is main
    assert "pwreplicas = peewee_replicas.cli.command:main" in (
        Path(__file__).parents[3] / "setup.cfg"
    ).read_text(encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "peewee_replicas", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "usage: pwreplicas" in done.stdout
    assert "exit codes:" in done.stdout


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("installed", [True, False])
def test_a_table_is_plain_without_rich_or_a_terminal(
    installed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed:
        pytest.importorskip("rich")
    else:
        monkeypatch.setitem(sys.modules, "rich.console", None)
    columns, rows = ("node", "state"), [("a", "up"), ("replica-1", "down")]
    lines = plain_table(columns, rows)
    assert lines == ["node       state", "---------  -----", "a          up", "replica-1  down"]
    for out in (io.StringIO(), Terminal()):
        print_table(columns, rows, {"up": "green"}, out)
        styled: Any = isinstance(out, Terminal) and installed
        assert (out.getvalue().splitlines() == lines) is not styled
        assert "replica-1" in out.getvalue()


def test_no_password_of_a_url_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "mysql://root:s3cr3t@127.0.0.1/app"]) == FAILED
    assert "s3cr3t" not in "".join(capsys.readouterr())


def test_a_program_that_cannot_be_imported_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needs_a_setting.py").write_text("import os\nos.environ['NOT_SET']\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["status", "needs_a_setting:db"]) == FAILED
    assert "importing it raised KeyError" in capsys.readouterr().err


def test_an_interrupted_command_has_found_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("peewee_replicas.cli.command.find", interrupt)
    assert main(["doctor", DOWN]) == FAILED
