"""The corpus of statements, and the generator of more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from support.statements.generator import statements

from peewee_replicas.statements.classifier import Dialect, Kind

CORPUS = Path(__file__).with_name("corpus")
# The newest releases that have every function the corpus and the generator call.
VERSIONS: dict[Dialect, str] = {"mysql": "9.5.0", "mariadb": "11.8.2-MariaDB", "sqlite": ""}
SIGNS = str.maketrans({"␤": "\n", "␍": "\r", "␉": "\t", "⍽": "\u00a0", "␀": "\0"})


class Entry(NamedTuple):
    place: str
    sql: str
    kind: Kind
    dialect: Dialect
    sent: bool
    effect: str
    why: str


def read_corpus() -> Iterator[Entry]:
    for path in sorted(CORPUS.glob("*.txt")):
        kind = dialects = effect = why = ""
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            if line.startswith("== "):
                kind, dialects, effect, why = (part.strip() for part in line[3:].split("|", 3))
            elif line.strip() and not line.startswith(";; "):
                for dialect in dialects.split():
                    if dialect != "sent":
                        yield Entry(
                            f"{path.name}:{number}",
                            line.translate(SIGNS),
                            kind,  # type: ignore[arg-type]
                            dialect,  # type: ignore[arg-type]
                            "sent" in dialects,
                            "" if effect == "-" else effect,
                            why,
                        )


ENTRIES = list(read_corpus())


def generated(seed: int, dialect: str) -> Iterator[str]:
    """Random statements, as ``tests/support/statements/generator.py`` makes them."""
    return statements(seed, dialect)
