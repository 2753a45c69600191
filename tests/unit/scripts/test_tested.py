"""`scripts/tested.py` makes the table of what was tested from the reports of a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tested

pytestmark = pytest.mark.source

REPORT = """<testsuites><testsuite>
<testcase classname="tests.unit.nodes.test_lag" name="one"/>
<testcase classname="tests.servers.nodes.test_prober" name="two"/>
<testcase classname="tests.servers.nodes.test_prober" name="three"/>
<testcase classname="tests.servers.nodes.test_prober" name="four"><skipped/></testcase>
<testcase classname="tests.servers.nodes.test_prober" name="five"><failure/></testcase>
<testcase classname="tests.servers.nodes.test_prober" name="six"><error/></testcase>
</testsuite></testsuites>"""
VERSIONS = {"python": "3.11.7", "packages": {"peewee": "4.5.3"}, "servers": {"mysql": "9.7.4"}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "full.xml").write_text(REPORT)
    (tmp_path / "full.versions.json").write_text(json.dumps(VERSIONS))
    (tmp_path / "docs.xml").write_text(REPORT)  # tells no versions, so it is no row
    return tmp_path


def test_only_tests_that_passed_are_counted(results: Path) -> None:
    assert tested.versions_table(tested.read(results)).splitlines()[2:] == [
        "| 3.11.7 | 4.5.3 | – | 9.7.4 | 1 | 2 |"
    ]


def test_a_run_without_servers_names_none(results: Path) -> None:
    (results / "full.xml").write_text(REPORT.replace("servers.nodes", "unit.nodes"))
    assert tested.versions_table(tested.read(results)).splitlines()[2:] == [
        "| 3.11.7 | 4.5.3 | – | – | 3 | – |"
    ]


def test_runs_with_the_same_versions_are_one_row(results: Path) -> None:
    for suffix in (".xml", ".versions.json"):
        (results / f"programs{suffix}").write_text((results / f"full{suffix}").read_text())
    assert tested.versions_table(tested.read(results)).splitlines()[2:] == [
        "| 3.11.7 | 4.5.3 | – | 9.7.4 | 2 | 4 |"
    ]


def test_topologies_are_counted_by_module(results: Path) -> None:
    table = tested.topologies_table(
        tested.read(results), {"nodes.test_prober": "two replicas", "nodes.test_other": "none"}
    )
    assert table.splitlines()[2:] == ["| two replicas | 2 |", "| none | – |"]


def test_the_tables_are_put_between_their_markers() -> None:
    page = "before\n<!-- versions -->\nold\n<!-- end -->\nafter\n"
    filled = tested.fill_in(page, {"versions": "| new |"})
    assert filled == "before\n<!-- versions -->\n\n| new |\n\n<!-- end -->\nafter\n"
    assert tested.fill_in(filled, {"versions": "| new |"}) == filled
    with pytest.raises(ValueError, match="topologies"):
        tested.fill_in(page, {"topologies": "| new |"})


def test_the_modules_of_the_topologies_exist() -> None:
    tests = Path(__file__).parents[2] / "servers"
    for module in tested.TOPOLOGIES:
        assert (tests / f"{module.replace('.', '/')}.py").exists(), module


def test_an_empty_folder_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tested.main(tmp_path, None) == 1
    assert "no reports" in capsys.readouterr().err
