"""A small process that cleans up after its parent has ended.

It runs as a plain script in isolated mode, so it must not import anything from this package. It reads
orders from its standard input, one per line, until the input closes or the parent has ended. Then it kills
the watched processes and removes the watched folders:

    +p PID START    watch a process; START is ``start_time(PID)``
    -p PID          stop watching it
    +f HEX          watch a folder, its path as the hexadecimal digits of its bytes
    -f HEX          stop watching it
"""

import os
import select
import shutil
import signal
import sys
import time
from contextlib import suppress

MARK = "PEEWEE_REPLICAS_CLUSTER"
"""The environment variable that names the folder a server belongs to."""

_POLL_SECONDS = 0.25
_GIVE_UP_SECONDS = 30.0
_QUIET_ROUNDS = 3


def process_status(pid: int) -> tuple[str, str]:
    """Return a process's state letter and start time; both are ``""`` if ``/proc`` does not list it."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return "", ""
    return fields[0].decode(), fields[19].decode()


def start_time(pid: int) -> str:
    """Return a process's start time, to distinguish it from a later one with its id; ``"?"`` if unknown."""
    return process_status(pid)[1] or "?"


def is_running(pid: int, start: str) -> bool:
    """Return whether the process that began at ``start`` still runs. A zombie does not."""
    if start == "?":
        try:
            os.kill(pid, 0)
        except OSError:
            return False
        return True
    state, now = process_status(pid)
    return now == start and state not in ("Z", "X")


def marked_processes(folders: set[bytes]) -> list[int]:
    """Return the processes whose environment marks them as belonging to one of the folders."""
    # Finds servers that the parent started just before it died, too late to register them.
    marks = {MARK.encode() + b"=" + folder for folder in folders}
    found: list[int] = []
    try:
        names = os.listdir("/proc")
    except OSError:
        return found
    for name in names:
        if name.isdigit() and int(name) != os.getpid():
            try:
                with open(f"/proc/{name}/environ", "rb") as file:
                    environment = file.read().split(b"\0")
            except OSError:
                continue
            if not marks.isdisjoint(environment) and process_status(int(name))[0] not in "ZX":
                found.append(int(name))
    return found


def sweep(processes: dict[int, str], folders: set[bytes]) -> None:
    """Kill the processes, then remove the folders."""
    deadline = time.monotonic() + _GIVE_UP_SECONDS
    quiet = 0
    while (processes or folders) and quiet < _QUIET_ROUNDS and time.monotonic() < deadline:
        alive = [pid for pid, start in processes.items() if is_running(pid, start)]
        alive += marked_processes(folders)
        for pid in alive:
            with suppress(OSError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        quiet = 0 if alive else quiet + 1
        time.sleep(0.02)  # not our children, so their end can only be polled
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def obey(line: bytes, processes: dict[int, str], folders: set[bytes]) -> None:
    """Carry out one order from the parent."""
    order, _, rest = line.partition(b" ")
    if order == b"+p":
        pid, _, start = rest.partition(b" ")
        processes[int(pid)] = start.decode()
    elif order == b"-p":
        processes.pop(int(rest), None)
    elif order == b"+f":
        folders.add(bytes.fromhex(rest.decode()))
    elif order == b"-f":
        folders.discard(bytes.fromhex(rest.decode()))


def watch(parent: int, processes: dict[int, str], folders: set[bytes]) -> None:
    """Take orders until the parent has ended or closed the pipe."""
    # A forked child of the parent also holds the pipe open, so the pipe may outlive the parent.
    watched = [0]
    with suppress(AttributeError, OSError):
        watched.append(os.pidfd_open(parent))
    buffer = b""
    while os.getppid() == parent:
        ready = select.select(watched, [], [], _POLL_SECONDS)[0]
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                return
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                obey(line, processes, folders)
        elif ready:
            return


def main() -> None:
    """Watch the process named by the first argument."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    processes: dict[int, str] = {}
    folders: set[bytes] = set()
    watch(int(sys.argv[1]), processes, folders)
    sweep(processes, folders)


if __name__ == "__main__":
    main()
