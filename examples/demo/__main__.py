"""Run the demo: ``python -m demo`` in ``examples``."""

import sys

from .command import main

sys.exit(main())
