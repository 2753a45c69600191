"""``python -m peewee_replicas``: the same as the command ``pwreplicas``."""

import sys

from .cli.command import main

if __name__ == "__main__":
    sys.exit(main())
