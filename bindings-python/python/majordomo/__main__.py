"""``python -m majordomo`` runs the broker, as the command ``mdbroker`` does."""

import sys

from majordomo._command import mdbroker

if __name__ == "__main__":
    sys.exit(mdbroker())
