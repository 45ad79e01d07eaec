"""The command ``mdbroker``, which installing the package puts on the path."""

from __future__ import annotations

import signal
import sys

from majordomo import _majordomo


def mdbroker() -> int:
    """Run a broker in the foreground until SIGINT or SIGTERM; ``mdbroker --help`` tells the options."""
    # The broker has its own handlers. Python's would turn the same Ctrl-C into a KeyboardInterrupt afterwards.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _majordomo.mdbroker(["mdbroker", *sys.argv[1:]])
