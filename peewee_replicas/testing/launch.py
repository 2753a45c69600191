"""Prepares data directories and starts server processes on them."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from peewee_replicas.testing.cleanup import cleanup
from peewee_replicas.testing.installations import Installation, cache_folder, numbers
from peewee_replicas.testing.janitor import MARK

_TEMPLATE_FORMAT = "6"
# What `mariadb-install-db` sends before the scripts of the system tables.
_TABLES_START = b"CREATE DATABASE IF NOT EXISTS mysql;\nUSE mysql;\nSET @auth_root_socket=NULL;\n"
# As MySQL names its own.
_KEY, _CERTIFICATE, _AUTHORITY = "server-key.pem", "server-cert.pem", "ca.pem"
_FROM_OLD_AUTHORITY = "ca-key.pem", "client-key.pem", "client-cert.pem"
# Files that MySQL keeps ready for its redo log. What is in them is written anew before it is read.
_SPARE_LOGS = "#innodb_redo/#ib_redo*_tmp"
# What a node of MySQL makes for itself: its UUID, and the files to which pages are written first. A server
# that finds such files at its start reads them, and keeps 48 MB more memory from then on.
_OF_ONE_NODE = "auto.cnf", "#ib_*.dblwr"
_PREPARE_SECONDS = 120.0
_LOG_LINES = 12
_BLOCK_BYTES = 4096
_COPIED_BYTES = 1 << 16

# The sizes of what counting statements by user does not need.
_UNUSED_INSTRUMENTS = (
    "hosts-size",
    "digests-size",
    "max-digest-length",
    "max-sql-text-length",
    "error-size",
    "events-statements-history-size",
    "events-statements-history-long-size",
    "events-stages-history-size",
    "events-stages-history-long-size",
    "events-waits-history-size",
    "events-waits-history-long-size",
    "events-transactions-history-size",
    "events-transactions-history-long-size",
    "max-memory-classes",
    "max-mutex-classes",
    "max-rwlock-classes",
    "max-cond-classes",
    "max-file-classes",
    "max-socket-classes",
    "max-stage-classes",
    "max-table-handles",
    "max-table-instances",
    "max-index-stat",
    "max-program-instances",
    "max-metadata-locks",
    "max-prepared-statements-instances",
    "max-transaction-instances",
)
# Nothing is flushed to disk. Written data survives when a server is killed, and nobody needs the folder
# after the machine has crashed. Pages are written twice, as usual: a kill may break the writing of one off.
_COMMON = (
    "--innodb-flush-method=nosync",
    "--innodb-flush-log-at-trx-commit=2",
    "--sync-binlog=0",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-buffer-size=1M",
    "--innodb-use-native-aio=0",
    "--loose-innodb-buffer-pool-load-at-startup=0",
    "--loose-innodb-buffer-pool-dump-at-shutdown=0",
    "--key-buffer-size=1M",
    "--table-open-cache=200",
    "--table-definition-cache=400",
    # Used only to count statements by user, so it is kept as small as possible: with its usual sizes it
    # takes a quarter of MySQL's memory and half of MariaDB's.
    "--performance-schema=ON",
    "--performance-schema-instrument=%=OFF",
    "--performance-schema-instrument=statement/%=ON",
    "--performance-schema-users-size=60",
    # With accounts, the counts of a user are read in half of the time. An account for which there is no place
    # is counted as well.
    "--performance-schema-accounts-size=10",
    *(f"--loose-performance-schema-{name}=0" for name in _UNUSED_INSTRUMENTS),
)
_OWN = {
    "mariadb": ("--innodb-log-file-size=8M", "--loose-aria-pagecache-buffer-size=1M"),
    # With the usual 128 pages, writing pages twice takes 9 MB of memory, and 31 MB more after a restart.
    "mysql": (
        "--loose-innodb-redo-log-capacity=16M",
        "--loose-innodb-doublewrite-pages=4",
        "--loose-mysqlx=OFF",
    ),
}
_REPLICATION = {
    "mariadb": ("--binlog-format=ROW", "--gtid-strict-mode=ON", "--skip-slave-start=ON"),
    "mysql": ("--gtid-mode=ON", "--enforce-gtid-consistency=ON", "--loose-skip-replica-start=ON"),
}
_TAKEN = {"datadir", "socket", "port", "bind_address", "server_id", "user", "log_error", "pid_file"}


def check_option_names(options: Mapping[str, object]) -> None:
    """Check that no option is one that the cluster sets itself.

    Raises:
        ValueError: an option is one that the cluster sets.
    """
    taken = sorted(_TAKEN & {name.replace("-", "_") for name in options})
    if taken:
        raise ValueError(f"options may not set {', '.join(taken)}: the cluster does")


def new_folder() -> Path:
    """Make a temporary folder whose path is short enough for the servers' sockets."""
    # A socket's path may have at most 107 bytes, and the part inside the folder needs about 30.
    base = tempfile.gettempdir()
    short = base if len(os.fsencode(base)) < 60 else "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="replicas-", dir=short))
    cleanup.watch_folder(folder)
    return folder


def remove_folder(folder: Path) -> None:
    """Remove a folder that `new_folder` made."""
    shutil.rmtree(folder)
    cleanup.forget_folder(folder)


def _as_user() -> tuple[str, ...]:
    # The servers run as root only with this option.
    return ("--user=root",) if os.geteuid() == 0 else ()


def _environment(installation: Installation, folder: Path) -> dict[str, str]:
    return {**installation.environment(), MARK: str(folder)}


def copy_template(installation: Installation, folder: Path, datadir: Path) -> None:
    """Make a new data directory by copying one that is prepared once per server version.

    Parameters:
        folder: the folder of the cluster.
        datadir: the data directory to make.

    Raises:
        RuntimeError: the original could not be prepared; the message ends with the server's output.
    """
    shutil.copytree(_template(installation, folder), datadir, copy_function=_copy_written)


def _copy_written(source: str, target: str) -> None:
    """Copy a file, but for the holes in it: they take no memory, and half of what MySQL prepares is empty."""
    with open(source, "rb", buffering=0) as file, open(target, "wb") as copy:
        size = os.fstat(file.fileno()).st_size
        end = 0
        while end < size:
            start, end = _written_after(file.fileno(), end, size)
            file.seek(start)
            copy.seek(start)
            while (left := end - file.tell()) > 0 and (data := file.read(min(left, _COPIED_BYTES))):
                copy.write(data)
        copy.truncate(size)
    shutil.copystat(source, target)


def _written_after(file: int, position: int, size: int) -> tuple[int, int]:
    """Return where the next written part of a file begins and ends; the rest where the system cannot say."""
    try:
        start = os.lseek(file, position, os.SEEK_DATA)
        return start, os.lseek(file, start, os.SEEK_HOLE)
    except AttributeError:  # this system knows no holes
        return position, size
    except OSError as exc:  # nor does this file system, unless the rest is one hole
        return (size, size) if exc.errno == errno.ENXIO else (position, size)


def _make_holes(folder: Path) -> None:
    """Write the files of a folder anew without the blocks in which nothing is."""
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        if path.match(_SPARE_LOGS):
            size = path.stat().st_size
            for length in (0, size):
                os.truncate(path, length)
            continue
        new = path.with_name(f"{path.name}.new")
        with path.open("rb") as file, new.open("wb") as copy:
            while data := file.read(_BLOCK_BYTES):
                if data.count(0) == len(data):
                    copy.seek(len(data), os.SEEK_CUR)
                else:
                    copy.write(data)
            copy.truncate(file.tell())
        shutil.copystat(path, new)
        new.replace(path)


def _template(installation: Installation, folder: Path) -> Path:
    key = str(_takes_key(installation) and shutil.which("openssl") is not None)
    settings = (_TEMPLATE_FORMAT, key, *installation.command, *_COMMON, *_OWN[installation.server])
    digest = hashlib.sha256("\0".join(settings).encode()).hexdigest()[:12]
    name = f"{installation.server}-{installation.version}-{digest}"
    templates = cache_folder() / "templates"
    try:
        templates.mkdir(parents=True, exist_ok=True)
        writable = os.access(templates, os.W_OK)
    except OSError:
        writable = False
    if not writable:  # the template cannot be kept, so prepare it for this cluster only
        templates = folder
    with _locked(templates / f"{name}.lock"):
        if not (templates / name).is_dir():
            _prepare(installation, templates / name)
    return templates / name


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _prepare(installation: Installation, target: Path) -> None:
    """Prepare a data directory, and move it into place once it is complete."""
    work = Path(tempfile.mkdtemp(prefix="new-", dir=target.parent))
    cleanup.watch_folder(work)
    try:
        datadir, script = work / "data", None
        options = (
            "--no-defaults",
            *installation.options,
            f"--datadir={datadir}",
            *_as_user(),
            *_COMMON,
            *_OWN[installation.server],
            "--skip-log-bin",
        )
        if installation.system_tables:
            datadir.mkdir()
            script = work / "tables.sql"
            script.write_bytes(
                b"".join((_TABLES_START, *(p.read_bytes() for p in installation.system_tables)))
            )
            command = [*installation.command, *options, "--bootstrap", "--max-allowed-packet=8M"]
        elif installation.server == "mariadb":
            base = f"--basedir={Path(installation.installer[0]).resolve().parent.parent}"
            root = "--auth-root-authentication-method=normal"
            first, *rest = options
            command = [*installation.installer, first, base, root, "--skip-test-db", *rest]
        else:
            command = [*installation.command, *options, "--initialize-insecure"]
        _run(command, _environment(installation, work), work / "output", script)
        if _takes_key(installation):
            _make_key(datadir)
        _make_holes(datadir)
        for pattern in _OF_ONE_NODE:
            for path in datadir.glob(pattern):
                path.unlink()
        os.replace(datadir, target)
    finally:
        remove_folder(work)


def _takes_key(installation: Installation) -> bool:
    return installation.server == "mysql" or numbers(installation.version) >= (11, 4)


def _make_key(datadir: Path) -> None:
    """Make a key and a certificate for TLS, if this machine has the command `openssl`.

    Without them MariaDB makes an RSA key at every start since 11.4, which takes longer than the rest of the
    start. MySQL makes one only when the data directory is prepared, but with a key on an elliptic curve a
    connection takes half of its time.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        return
    new = {datadir / f"{name}.new": datadir / name for name in (_KEY, _CERTIFICATE)}
    key, certificate = new
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    done = subprocess.run([*command, *files, "-days", "3650", "-subj", "/CN=localhost"], capture_output=True)
    if done.returncode:  # the server can do without
        for path in new:
            path.unlink(missing_ok=True)
        return
    for path, name in new.items():
        path.replace(name)
    if (datadir / _AUTHORITY).exists():
        shutil.copy(datadir / _CERTIFICATE, datadir / _AUTHORITY)
        for old in _FROM_OLD_AUTHORITY:
            (datadir / old).unlink(missing_ok=True)


def _run(command: list[str], environment: dict[str, str], output: Path, script: Path | None) -> None:
    with output.open("wb") as file, open(script or os.devnull, "rb") as given:
        process = subprocess.Popen(
            command,
            stdin=given,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code: int | str = process.wait(_PREPARE_SECONDS)
        except subprocess.TimeoutExpired:
            code = f"no answer within {_PREPARE_SECONDS:.0f} s"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if code:
        raise RuntimeError(
            f"could not prepare a data directory with {command[0]} ({code}):\n{log_tail(output)}"
        )


def log_tail(log: Path, count: int = _LOG_LINES, *, errors_first: bool = True) -> str:
    """Return the last lines of a server's log; if `errors_first`, only those with errors if there are any."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return "(the server wrote no log)"
    errors = [line for line in lines if errors_first and "[ERROR]" in line]
    return "\n".join((errors or lines)[-count:])


def reserve_port(host: str) -> tuple[int, socket.socket | None]:
    """Return a free port, and a socket that reserves the port until the socket is closed."""
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind((host, 0))
    port = reservation.getsockname()[1]
    # On Linux, a bound socket that does not listen reserves the port while the server is down: the server
    # may still bind it, no other program gets it, and clients are refused.
    if sys.platform == "linux":
        return port, reservation
    reservation.close()
    return port, None


def start_server(
    installation: Installation,
    *,
    folder: Path,
    home: Path,
    port: int,
    server_id: int,
    replica: bool,
    extra: Mapping[str, object],
    init_file: Path | None,
) -> subprocess.Popen[bytes]:
    """Start a server on the data directory ``home / "data"``, without waiting until it answers."""
    command = [
        *installation.command,
        "--no-defaults",
        *installation.options,
        f"--datadir={home / 'data'}",
        f"--socket={home / 'socket'}",
        f"--pid-file={home / 'pid'}",
        f"--log-error={home / 'error.log'}",
        f"--tmpdir={home / 'tmp'}",
        f"--secure-file-priv={home / 'files'}",
        *_as_user(),
        *_COMMON,
        *_OWN[installation.server],
        *_key_options(installation, home / "data"),
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        f"--port={port}",
        f"--server-id={server_id}",
        "--report-host=127.0.0.1",  # so that the primary can tell who its replicas are
        "--log-bin=binlog",
        "--log-slave-updates=ON" if installation.server == "mariadb" else "--log-replica-updates=ON",
        "--relay-log=relay",
        *_REPLICATION[installation.server],
        *(("--read-only=ON",) if replica else ()),
        *(_spell(name, value) for name, value in extra.items()),
        *((f"--init-file={init_file}",) if init_file else ()),
    ]
    for name in ("tmp", "files"):
        (home / name).mkdir(exist_ok=True)
    with (home / "error.log").open("ab") as log:  # for messages before the server opens the log itself
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=home,
            env=_environment(installation, folder),
            start_new_session=True,  # so that Ctrl-C in the terminal does not reach the servers
        )
    cleanup.watch_process(process.pid)
    return process


def _key_options(installation: Installation, datadir: Path) -> tuple[str, ...]:
    # MySQL finds them by their names.
    if installation.server == "mysql" or not (datadir / _KEY).exists():
        return ()
    return f"--ssl-key={datadir / _KEY}", f"--ssl-cert={datadir / _CERTIFICATE}"


def _spell(name: str, value: object) -> str:
    option = f"--{name.replace('_', '-')}"
    if value is None:
        return option
    if isinstance(value, bool):
        return f"{option}={'ON' if value else 'OFF'}"
    return f"{option}={value}"
