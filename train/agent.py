"""Restarts in place: which failed processes torchrun starts again, on all nodes together, and from where they go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.launcher import api

from . import finish
from .outputs import checkpoints
from .processes import requests


class Agent(LocalElasticAgent):
    """torchrun's agent of one node. It does not restart what would end in the same way."""

    #: Where checkpoints are looked for, and whether nodes may join and leave.
    output_dir: Path
    is_elastic: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._restarts = 0
        self._begun_at = checkpoints.reached(self.output_dir)

    def _monitor_workers(self, worker_group: Any) -> Any:
        """Look after the processes. Once one of them has failed for good, no restarts remain."""
        result = super()._monitor_workers(worker_group)
        if result.state == WorkerState.FAILED and self._remaining_restarts > 0:
            refusal = self._refusal({failure.exitcode for failure in result.failures.values()})
            if refusal:
                requests.say(f"not restarted in place: {refusal}")
                self._remaining_restarts = 0
        return result

    def _refusal(self, codes: set[int]) -> str:
        """Why processes that ended with these codes are not started again; empty: they are."""
        if finish.BAD_INPUT in codes:
            return "another attempt would end in the same way"
        if finish.FAILED in codes and checkpoints.reached(self.output_dir) <= self._begun_at:
            return "it failed before it saved a newer checkpoint"
        return ""

    def _restart_workers(self, worker_group: Any) -> None:
        """Start the processes again, after a failure here or on another node.

        (torchrun counts those of its own node alone, so that the nodes would disagree about the number of the attempt.)
        """
        if self.is_elastic:
            requests.say("restarting the processes in place: one has failed, or the nodes are others")
        else:
            self._restarts += 1
            most = worker_group.spec.max_restarts
            self._remaining_restarts = max(0, most - self._restarts)
            requests.say(f"restarting the processes in place ({self._restarts} of at most {most} times)")
        self._begun_at = checkpoints.reached(self.output_dir)
        super()._restart_workers(worker_group)


def install(output_dir: Path, *, is_elastic: bool) -> None:
    """Have torchrun use this agent. It offers no other way than its name in the module that makes one."""
    Agent.output_dir, Agent.is_elastic = output_dir, is_elastic
    api.LocalElasticAgent = Agent  # type: ignore[attr-defined]
