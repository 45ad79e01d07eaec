"""Runs it and says what came of it. The exit status is 1 where a request was lost, doubled, answered wrongly or left without an
outcome, or where a process ended by itself; how long things took never decides it."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import shutil
import sys
from pathlib import Path

from agent_process import load_specs

from .report import gathered, table
from .stage import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long the whole run takes")
    parser.add_argument("--seed", type=int, help="what decides which faults happen; drawn where it is not given")
    parser.add_argument("--json", action="store_true", help="the report as JSON on standard output, the rest on standard error")
    parser.add_argument("--logs", type=Path, required=True, help="the folder for the processes' standard errors; emptied first")
    arguments = parser.parse_args()
    seed = secrets.randbits(32) if arguments.seed is None else arguments.seed
    specs = [spec for spec in load_specs().values() if not spec.stranger]
    missing = [spec.language for spec in specs if not spec.exists]
    if missing:
        parser.error(f"no agent program for {', '.join(missing)}: build it")
    shutil.rmtree(arguments.logs, ignore_errors=True)
    arguments.logs.mkdir(parents=True)
    diary = sys.stderr if arguments.json else sys.stdout
    print(f"chaos: --minutes {arguments.minutes:g} --seed {seed}", file=diary, flush=True)
    stage = asyncio.run(run(specs, seed, arguments.minutes, arguments.logs, diary))
    report = gathered(stage, arguments.minutes)
    if arguments.json:
        print(json.dumps(report))
    else:
        print(table(report))
    print(f"chaos: seed {seed}: {'something is wrong' if stage.ledger.findings else 'all is well'}", file=diary)
    return 1 if stage.ledger.findings else 0


if __name__ == "__main__":
    sys.exit(main())
