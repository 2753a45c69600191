"""The benchmark's short form runs, and reports on everything it is to measure. No number is looked at."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from peewee_replicas.testing import available

ROOT = Path(__file__).parents[3]
SECTIONS = ("overhead", "comparison", "scaling", "over_time", "price", "growth")
STEPS = ("overhead", "mix", "stale 20", "stale 1000", "kill", "pause")
PICTURES = ("overhead", "peers", "peers-over-time", "scaling", "tail", "price", "growth")


def bench(output: Path, *options: str) -> None:
    command = [ROOT / "scripts" / "bench", "--quick", *options, "--output", output]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500)
    assert done.returncode == 0, done.stderr[-4000:]


def check_results(sections: dict[str, Any]) -> None:
    failures = {name: each["failure"] for name, each in sections.items()}
    assert failures == dict.fromkeys(SECTIONS, "")
    peers = sections["comparison"]["found"]["peers"]
    assert len(peers) == 7
    for name, peer in peers.items():
        steps = {step: peer.get(step) for step in STEPS}
        assert all(steps.values()), (name, steps)  # a value, or the reason why there is none
    failed = {step: peers["ours"][step].get("failed") for step in STEPS}
    assert not any(isinstance(reason, str) for reason in failed.values()), failed


def test_the_short_form_measures_tells_and_draws_everything(tmp_path: Path) -> None:
    reason = available("mariadb")
    if reason is not None:
        if os.environ.get("PEEWEE_REPLICAS_REQUIRE_SERVERS") == "1":
            pytest.fail(f"a server is required here: {reason}", pytrace=False)
        pytest.skip(f"NO MARIADB SERVER: {reason}")
    bench(tmp_path, "--server", "mariadb")
    check_results(json.loads((tmp_path / "results.json").read_text())["sections"])
    page = (tmp_path / "results.md").read_text()
    assert "Incomplete" not in page
    assert "No picture" not in page
    for name in PICTURES:
        assert f"({name}.png)" in page
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / f"{name}.svg").read_text().lstrip().startswith("<?xml")
    bench(tmp_path, "--redraw")
    assert (tmp_path / "results.md").read_text() == page
