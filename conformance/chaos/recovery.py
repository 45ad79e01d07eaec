"""How long it takes until what was lost is there again, by what was done and to whom."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .cast import Party


@dataclass
class Loss:
    """A request that was in the hands of a worker when something was done to it."""

    what: str
    worker: Party
    since: float
    moved: bool = False
    """Whether another worker has begun with it."""


class Recovery:
    """Only what one fault did is measured: where another one came into it, there is no figure."""

    def __init__(self) -> None:
        self.seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        """By what happened, and by whom."""
        self.losses: dict[int, Loss] = {}
        self.returning: dict[Party, float] = {}
        """Who has not been served by the restarted broker yet, and when the last one was killed."""
        self.first = 0
        """The first request that only the restarted broker can have been asked."""

    def lost(self, what: str, worker: Party, since: float, numbers: list[int]) -> None:
        for number in numbers:
            self.losses[number] = Loss(what, worker, since)

    def broker_lost(self) -> None:
        self.losses.clear()
        self.returning.clear()

    def broker_back(self, since: float, first: int, parties: list[Party]) -> None:
        self.first = first
        self.returning = dict.fromkeys(parties, since)

    def disturbed(self, party: Party) -> None:
        self.returning.pop(party, None)

    def ran(self, number: int, worker: Party, at: float) -> None:
        self.served(number, worker, at)
        loss = self.losses.get(number)
        if loss is None or loss.worker is worker:
            return
        loss.moved = True
        if worker.disturbed:
            del self.losses[number]

    def answered(self, number: int, client: Party, at: float) -> None:
        self.served(number, client, at)
        loss = self.losses.pop(number, None)
        if loss is not None and loss.moved and not client.disturbed:
            self.seconds[loss.what, loss.worker.title].append(at - loss.since)

    def served(self, number: int, party: Party, at: float) -> None:
        if number >= self.first and (since := self.returning.pop(party, None)) is not None:
            self.seconds["broker killed", party.title].append(at - since)
