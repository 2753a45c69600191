"""The settings that a test passes to the programs it starts."""

from __future__ import annotations

import json
import os
from typing import Any

SETTINGS: dict[str, Any] = json.loads(os.environ["WEBAPP_SETTINGS"])
SECRET = "a secret of sixteen bytes or more"


def database(kind: Any) -> Any:
    """The database that the test described."""
    return kind(**SETTINGS["database"])
