"""What a run has shown: for people a table, for programs JSON."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

from .cast import HEARTBEAT_MS, LIVENESS
from .stage import Stage

KINDS = ("lost", "doubled", "wrong", "hung", "crashed")
FOUND_MS = (LIVENESS + 1) * HEARTBEAT_MS
# For what happened: what is measured, and what is expected of the median and of the worst case, in milliseconds.
EXPECTED: dict[str, tuple[str, float | None, float | None]] = {
    "worker killed": ("until another worker has answered its request", 10, 2 * HEARTBEAT_MS),
    "connection cut": ("until another worker has answered its request", None, None),
    "worker frozen": ("until another worker has answered its request", FOUND_MS, None),
    "network gone": ("until another worker has answered its request", FOUND_MS, None),
    "broker killed": ("until the restarted one has served it", 1000, None),
    "broker told to end": ("until the restarted one has served it", 1000, None),
    "reconnected": ("from the cut until it is served again", None, None),
    "thawed": ("from the thaw until it is served again", None, None),
    "network back": ("until it is served again", None, None),
    "descriptors back": ("until it is served again", None, None),
}
# What is said of a language where it is; of the role for the rest.
BY_LANGUAGE = ("worker killed", "broker killed")


def percentile(values: list[float], share: float) -> float:
    """The smallest value that so many are not above."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def figures(seconds: list[float], what: str) -> dict[str, Any]:
    _, median_ms, worst_ms = EXPECTED[what]
    p50, p95, worst = (round(percentile(seconds, share) * 1000, 1) for share in (0.5, 0.95, 1))
    met = (median_ms is None or p50 <= median_ms) and (worst_ms is None or worst <= worst_ms)
    expectation = {"expected_p50_ms": median_ms, "expected_worst_ms": worst_ms}
    return {"count": len(seconds), "p50_ms": p50, "p95_ms": p95, "worst_ms": worst, **expectation, "met": met}


def gathered(stage: Stage, minutes: float) -> dict[str, Any]:
    ledger = stage.ledger
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for (what, title), values in sorted(stage.recovery.seconds.items()):
        language, role = title.split()
        seconds[what, f"{language} {role}" if what in BY_LANGUAGE else f"every {role}"] += values
    order = list(EXPECTED)
    entries = sorted(seconds.items(), key=lambda item: order.index(item[0][0]))
    recovery = [{"what": what, "who": who, **figures(values, what)} for (what, who), values in entries]
    return {
        "seed": stage.seed,
        "minutes": minutes,
        "heartbeat_ms": HEARTBEAT_MS,
        "liveness": LIVENESS,
        "faults": stage.faults,
        "requests": ledger.count,
        "once": sum(ledger.once),
        "ran_again": ledger.ran_again(),
        "outcomes": dict(ledger.outcomes),
        "findings": {kind: ledger.findings[kind] for kind in KINDS},
        "told": ledger.told,
        "recovery": recovery,
    }


def table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['faults']} faults, {report['requests']} requests, {report['once']} of them to run once at most; "
        f"{report['ran_again']} ran again",
        "outcomes: " + ", ".join(f"{count} {name}" for name, count in report["outcomes"].items()),
        "",
        f"{'recovery, in ms':<32}{'n':>6}{'p50':>9}{'p95':>9}{'worst':>9}  expected",
    ]
    for what, (measured, _, _) in EXPECTED.items():
        entries = [entry for entry in report["recovery"] if entry["what"] == what]
        lines.append(f"{what}: {measured}" + ("" if entries else "; no figures"))
        lines += [row(entry) for entry in entries]
    lines += ["", *report["told"], ", ".join(f"{count} {kind}" for kind, count in report["findings"].items())]
    return "\n".join(lines)


def row(entry: dict[str, Any]) -> str:
    p50, worst = entry["expected_p50_ms"], entry["expected_worst_ms"]
    wanted = [f"p50 <= {p50:g}"] if p50 else []
    wanted += [f"worst <= {worst:g}"] if worst else []
    verdict = f"{', '.join(wanted)}: {'met' if entry['met'] else 'not met'}" if wanted else ""
    numbers = "".join(f"{entry[name]:>9.1f}" for name in ("p50_ms", "p95_ms", "worst_ms"))
    return f"  {entry['who']:<30}{entry['count']:>6}{numbers}  {verdict}".rstrip()
