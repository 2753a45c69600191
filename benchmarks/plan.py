"""What one section of the benchmark is told: its size, its servers, how long it may take."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Plan:
    """The size of a run, and where a section leaves what it finds.

    Attributes:
        quick: the short form, which shows that everything works and measures nothing worth telling.
        servers: ``"mariadb"``, ``"mysql"`` or both; a section that needs only one takes the first.
        seconds: how long the section may take.
        output: the file that takes its results, written anew after every step.
        seed: of everything that is drawn by chance.
    """

    quick: bool
    servers: tuple[str, ...]
    seconds: float
    output: Path
    seed: int = 1
    began: float = field(default_factory=time.monotonic)

    def pick(self, quick: T, full: T) -> T:
        """One of two sizes."""
        return quick if self.quick else full

    def left(self) -> float:
        """Seconds until the section has to be done."""
        return self.seconds - (time.monotonic() - self.began)

    def say(self, text: str) -> None:
        """One line of progress."""
        print(f"      {time.monotonic() - self.began:5.1f} s  {text}", file=sys.stderr, flush=True)

    def save(self, found: Any) -> None:
        """Keep what was found so far: a section that is cut short has not measured for nothing."""
        beside = self.output.with_suffix(".part")
        beside.write_text(json.dumps(found))
        os.replace(beside, self.output)
