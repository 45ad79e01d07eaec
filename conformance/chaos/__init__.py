"""Chaos with real processes: one broker, clients and workers of all languages, and everything that can happen to them.

`python -m chaos --minutes 1 --seed 7`, in the folder `conformance`, with everything built (`cargo xtask chaos` sees to that).
"""

import sys
from pathlib import Path

# Where the agents are described.
sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
