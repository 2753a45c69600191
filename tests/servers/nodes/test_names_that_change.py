"""`dns()` and `srv()` with a real name server, dnsmasq, whose answers change, fail and end.

The kinds of answers of a name server: addresses of both families, others, none (the name is gone), silence
(the server is gone), records with a time to live. The resolver of the system has no argument for the name
server, so a program runs in namespaces of its own where ``/etc/resolv.conf`` names it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.proxies.name_server import PROGRAM

pytestmark = pytest.mark.once

APART = ["unshare", "--mount", "--net", *([] if os.geteuid() == 0 else ["--map-root-user"])]
TESTS = Path(__file__).parents[2]


def can_be_apart() -> bool:
    try:
        return subprocess.run([*APART, "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(PROGRAM is None, reason="dnsmasq is not on this machine")
@pytest.mark.skipif(not can_be_apart(), reason="this user may not make namespaces")
def test_replicas_follow_the_answers_of_a_name_server(tmp_path: Path) -> None:
    command = [*APART, sys.executable, str(TESTS / "support/discovering_program.py"), str(tmp_path)]
    path = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "all": ["10.0.0.1:3307", "10.0.0.2:3307", "fd00::3:3307"],
        "others": ["10.0.0.2:3307", "10.0.0.4:3307"],
        "none": ["10.0.0.2:3307", "10.0.0.4:3307"],
        "again": ["10.0.0.5:3307"],
        "no name server": ["10.0.0.5:3307"],
        "service": ["a.test:3307"],
        "service, no name server": ["a.test:3307"],
        "service again": ["c.test:3306"],
        "service in its time to live": [["c.test:3306"], ""],
    }
