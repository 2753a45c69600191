"""Settings from the environment, by which an operator overrides a program's arguments."""

from __future__ import annotations

import contextlib
import logging
import os

from ..errors import ConfigurationError
from ..routing.settings import Settings, check_reads

logger = logging.getLogger("peewee.replicas")

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
        logger.warning("%s=%s in the environment overrides reads=%r", READS, text, settings.reads)
    return settings._replace(reads=reads)
