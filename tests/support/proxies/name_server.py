"""dnsmasq, a real name server on loopback, with the addresses of one name."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from pathlib import Path

from support.waiting import until

PROGRAM = shutil.which("dnsmasq", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")


class NameServer:
    """dnsmasq, once `start` was called.

    Parameters:
        folder: where its file of names is kept.
        known: the name.
        port: where it listens, over UDP and TCP.
    """

    def __init__(self, folder: Path, known: str, port: int = 53) -> None:
        self._known = known
        self._port = port
        self._hosts = folder / "hosts"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        assert PROGRAM is not None, "dnsmasq is not on this machine"
        command = [
            PROGRAM, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv",
            "--no-hosts", f"--addn-hosts={self._hosts}", "--local=/test/", "--listen-address=127.0.0.1",
            f"--port={self._port}", "--bind-interfaces", "--user=root", "--log-facility=-", *options,
        ]  # fmt: skip
        self._process = subprocess.Popen(command)
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, "dnsmasq has ended"
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            return sock.connect_ex(("127.0.0.1", self._port)) == 0

    def name(self, *addresses: str) -> None:
        """Let the name have these addresses, soon after this returns."""
        self._hosts.write_text("".join(f"{address} {self._known}\n" for address in addresses))
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
