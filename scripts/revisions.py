"""The files of a git revision, for programs that hold two revisions beside each other."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def tree(revision: str) -> Iterator[Path]:
    """A folder with the files of `revision`; ``.`` is this checkout as it stands.

    Raises `subprocess.CalledProcessError` where git does not know the revision.
    """
    if revision == ".":
        yield ROOT
        return
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", revision], stdout=subprocess.PIPE, check=True
    ).stdout
    # Pythons that know this filter warn where none is given.
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, **safe)
        yield Path(folder)
