"""What may happen to a run, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass

GOES_ON = "goes on to the same losses"
ENDS = "ends, and says why"
AGAIN = "ends, and says why; submitted again, it goes on to the same losses"


@dataclass(frozen=True)
class Fault:
    """What happens to a run, once.

    place: slurm, kubernetes or bash. action: what the rank does to itself in the phase (`inject.happens`); with
    `outside` it waits, and that happens from outside. keys: of the job, besides those of all.
    """

    action: str
    phase: str = "step"
    rank: int | str = 1  # or "all"
    launcher: str = "torchrun"
    outside: str = ""
    place: str = "slurm"
    nnodes: int | str = 2
    #: Whether each step is also saved in the node's memory.
    second_tier: bool = False
    #: The state of the run, or words of its log, if it must end, because another attempt would end in the same way.
    ends: str = ""
    #: Whether it must go on once what was wrong has been mended, and it was submitted again.
    again: bool = False

    @property
    def name(self) -> str:
        return self.outside or self.action

    @property
    def how(self) -> str:
        """How the run is started."""
        how = self.launcher if self.nnodes == 2 else f"{self.launcher}, nnodes {self.nnodes}"
        return f"{how}, second tier" if self.second_tier else how

    @property
    def key(self) -> str:
        return f"{self.place} {self.how} {self.name} {self.phase} {self.rank}"


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    lost: steps that were trained twice. seconds: from the fault to the next new step. cold: from the submission to the
    first step. verdict: in words.
    """

    verdict: str
    lost: int
    seconds: float | None
    cold: float | None

    @property
    def is_good(self) -> bool:
        return self.verdict in (GOES_ON, ENDS, AGAIN)
