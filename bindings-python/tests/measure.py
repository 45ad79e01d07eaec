"""What a process holds: descriptors, threads, memory of Python and memory of the C heap."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            *("arena", "ordblks", "smblks", "hblks", "hblkhd"),
            *("usmblks", "fsmblks", "uordblks", "fordblks", "keepcost"),
        )
    ]


_mallinfo2 = ctypes.CDLL(None).mallinfo2
_mallinfo2.restype = _MallInfo


@dataclass
class Held:
    """What is held at one moment; sizes are in bytes."""

    descriptors: int
    threads: int
    objects: int
    """What the garbage collector knows of."""
    traced: int
    """What tracemalloc knows of, if it is on."""
    native: int
    """What is allocated by malloc: the core, libzmq, and Python's larger objects."""
    resident: int

    @classmethod
    def now(cls) -> Held:
        while gc.collect():
            pass
        info = _mallinfo2()
        with open("/proc/self/statm") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(
            descriptors=len(os.listdir("/proc/self/fd")),
            threads=len(os.listdir("/proc/self/task")),
            objects=len(gc.get_objects()),
            traced=tracemalloc.get_traced_memory()[0],
            native=info.uordblks + info.hblkhd,
            resident=resident,
        )

    def since(self, before: Held) -> dict[str, int]:
        """How much more this is than what was held before."""
        return {name: getattr(self, name) - getattr(before, name) for name in self.__dataclass_fields__}


SPANS = 4


def growth(rounds: int, once: Callable[[], object]) -> dict[str, int]:
    """How much more is held after `rounds`, when first uses are over and tables of a bounded size are full.

    They are made `SPANS` times, and the smallest figure counts: a table that grows now and then, and a message that is
    still on its way at the moment of measuring, show in some of the spans, a leak in all of them.
    """
    for _ in range(max(3, rounds)):
        once()
    moments = [Held.now()]
    for _ in range(SPANS):
        for _ in range(rounds):
            once()
        moments.append(Held.now())
    spans = [after.since(before) for before, after in itertools.pairwise(moments)]
    return {name: min(span[name] for span in spans) for name in spans[0]}
