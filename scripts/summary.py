"""Add up what tox and pytest reported; fail if anything failed, is missing, or nothing ran. Name what failed.

Usage: summary.py RESULTS_FOLDER ENVIRONMENT...
"""

import json
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from run_pytest import again, failures


def count(report: Path) -> tuple[int, int, int]:
    """Return how many tests of a JUnit file passed, failed and were skipped."""
    passed = failed = skipped = 0
    for suite in ElementTree.parse(report).iter("testsuite"):
        bad = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
        left_out = int(suite.get("skipped", 0))
        failed += bad
        skipped += left_out
        passed += int(suite.get("tests", 0)) - bad - left_out
    return passed, failed, skipped


def main(folder: Path, environments: list[str]) -> int:
    report = folder / "tox.json"
    ran = json.loads(report.read_text())["testenvs"] if report.exists() else {}
    total_passed = total_failed = total_skipped = 0
    remarks = []
    for name in environments:
        junit = folder / f"{name}.xml"
        passed, failed, skipped = count(junit) if junit.exists() else (0, 0, 0)
        commands = ran.get(name, {}).get("test", [])
        worked = bool(commands) and all(command["retcode"] == 0 for command in commands)
        bad = failures(junit) if junit.exists() else []
        if again(junit).exists():
            still = failures(again(junit))
            mended = [test for test in bad if test not in still]
            remarks += [f"{name}: failed beside others, passed alone: {test}" for test in mended]
            bad = still
            passed, failed = passed + failed - len(still), len(still)
        remarks += [f"{name}: FAILED {test}" for test in bad]
        # What is no test, such as a linter or an environment that could not be made, fails as one.
        failed = max(failed, 0 if worked else 1)
        total_passed += passed
        total_failed += failed
        total_skipped += skipped
        counts = f"{passed} passed, {failed} failed, {skipped} skipped" if junit.exists() else ""
        print(f"{name:16} {'ok    ' if worked and not failed else 'FAILED'} {counts}".rstrip())
    print(*remarks, sep="\n", end="\n" if remarks else "")
    if total_skipped:
        print(f"{total_skipped} skipped; the reasons are above")
    print(f"{total_passed} passed, {total_failed} failed")
    return 1 if total_failed or not total_passed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
