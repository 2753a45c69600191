"""Change the replicas again and again under load, as discovery does, and count what the program notices.

``python -m benchmarks.membership mariadb --changes 1000``. Printed is what must be 0 (failed
reads and writes, reads that miss the thread's own write), and the connections that the servers count: before
and after the changes with the same replica, and once the database is closed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from support.clusters import own_cluster
from support.load.changing_members import FORMS, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("server", choices=["mariadb", "mysql"])
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--form", choices=list(FORMS), default="threads")
    parser.add_argument("--between", type=int, default=10, help="at least so many reads between two changes")
    chosen = parser.parse_args()
    with own_cluster(chosen.server, 3) as cluster:
        cluster.sync()
        found = run(cluster, chosen.form, chosen.changes, chosen.between)
    print(f"{chosen.server}, {chosen.form}: {found.changes} changes in {found.seconds:.1f} s")
    print("executed:", ", ".join(f"{count} {sort}" for sort, count in found.done.items()))
    print("must not happen:", dict(found.wrong) or 0)
    for when, counted in (("before", found.before), ("after", found.after), ("closed", found.closed)):
        print(f"connections {when}: {', '.join(f'{name} {count}' for name, count in counted.items())}")


if __name__ == "__main__":
    main()
