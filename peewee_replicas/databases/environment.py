"""Settings from the environment, by which an operator overrides a program's arguments."""

from __future__ import annotations

import contextlib
import os

from ..errors import ConfigurationError
from ..log import log_event
from ..routing.settings import Settings, check_reads

READS = "PEEWEE_REPLICAS_READS"
"""The variable that takes the place of the argument ``reads``."""


def from_environment(settings: Settings) -> Settings:
    """Return the settings, with those that the environment overrides.

    Raises:
        ConfigurationError: a variable has a value that cannot work.
    """
    text = os.environ.get(READS, "").strip()
    if not text:
        return settings
    value: object = text
    with contextlib.suppress(ValueError):
        value = float(text)
    reads = check_reads(value, ConfigurationError, READS)
    if reads != settings.reads:
        cause = f"{READS}={text} in the environment"
        log_event("switched", "%s overrides reads=%r", cause, settings.reads, cause=cause)
    return settings._replace(reads=reads)
