"""The server's side of a meeting, on node 0."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Collection, Sized
from contextlib import suppress
from pathlib import Path

import msgspec

from ..processes import network
from . import compare, handshake, links, sockets
from .facts import Facts
from .findings import Finding
from .messages import LONGEST_LINE, PROMPT, REMINDER, Go, Message, Report, Verdict
from .node import Node

#: Seconds of clock difference between nodes; more misleads whatever compares the times of files.
_SKEW = 5.0
#: Seconds that nodes which are started together may start apart from each other.
_GRACE = 10.0


class Meeting:
    """The server on node 0. `verdict` is set once all nodes have reported, something is wrong, or time is up."""

    def __init__(
        self,
        node: Node,
        timeout: float,
        output_dir: Path,
        say: Callable[[str], None],
        show: Callable[[Verdict], None],
    ) -> None:
        self.node, self.timeout, self.say, self.show = node, timeout, say, show
        self.token = output_dir / f".preflight-{time.time_ns():x}"
        self.facts: dict[int, Facts] = {}
        self.reports: dict[int, Report] = {}
        self.addresses: dict[int, tuple[str, int]] = {}
        self.writers: list[tuple[int, asyncio.StreamWriter]] = []
        self.changed = asyncio.Condition()
        self.trouble: list[Finding] = []
        self.heard: set[int] = set()
        self.strangers: set[str] = set()
        self.verdict: Verdict | None = None

    async def hold(self, listening: socket.socket) -> Verdict:
        """Serve until all nodes have been sent the verdict."""
        async with sockets.serving(self._serve, listening, LONGEST_LINE):
            self.verdict = await self._lead()
            is_early = bool(self.trouble)  # after the verdict nodes leave, which is no trouble
            self.show(self.verdict)  # first: once another node exits, srun ends this one too
            for _, writer in self.writers:
                writer.write(self._last_words())
            await self._flush()
            if is_early:  # nodes that come a little later get the verdict, too
                await self._wait_for(self.heard, _GRACE)
        return self.verdict

    async def _lead(self) -> Verdict:
        missing = await self._wait_for(self.facts, self.timeout, self.trouble)
        absent = [_missing(self.node, self.facts, missing)] if missing else []
        found = [*(self.trouble or absent), *compare.findings(self.facts)]
        if any(finding.error for finding in found):
            return Verdict(findings=found, nodes=self.facts)
        with suppress(OSError):
            self.token.touch()
        try:
            for rank, writer in self.writers:
                peers = {target: self.addresses[target] for target in links.partners(rank, self.node.nnodes)}
                writer.write(_line(Message(go=Go(peers=peers, time=time.time(), token=self.token.name))))
            await self._flush()
            patience = max(self.timeout, links.longest(self.node.nnodes))
            silent = await self._wait_for(self.reports, patience, self.trouble)
        finally:
            self.token.unlink(missing_ok=True)
        measured = [link for report in self.reports.values() for link in report.links]
        names = {rank: compare.name(self.facts, [rank]) for rank in self.facts}
        found += self.trouble + [_silent(names[rank]) for rank in silent if not self.trouble]
        found += [*links.findings(measured, names), *self._of_reports(names)]
        return Verdict(findings=found, nodes=self.facts, links=measured)

    async def _wait_for(self, arrived: Collection[int], timeout: float, trouble: Sized = ()) -> list[int]:
        """Wait until all nodes are in `arrived`, there is `trouble`, or time is up. Returns who is missing."""
        end = time.monotonic() + timeout
        said = time.monotonic()
        while self._missing(arrived) and not trouble and time.monotonic() < end:
            with suppress(TimeoutError):
                async with self.changed, asyncio.timeout(1):
                    await self.changed.wait()
            if time.monotonic() - said > REMINDER:
                said = time.monotonic()
                self.say(f"still waiting for {_ranks(self._missing(arrived))} of {self.node.nnodes} nodes")
        return self._missing(arrived)

    def _missing(self, arrived: Collection[int]) -> list[int]:
        return [rank for rank in range(self.node.nnodes) if rank not in arrived]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One node's connection, from its greeting to its report."""
        peer = str(writer.get_extra_info("peername")[0]).removeprefix("::ffff:")
        try:
            async with asyncio.timeout(PROMPT):
                await handshake.as_host(reader, writer, self.node.token)
                facts = msgspec.json.decode(await reader.readline(), type=Facts)
        except (OSError, TimeoutError, ValueError, RecursionError):
            writer.close()  # not one of ours: a port scan, a health check
            return
        except handshake.StrangerError:
            writer.close()
            if peer not in self.strangers:
                self.strangers.add(peer)
                self.say(f"refused {peer}, which does not know this run's token: it is another run's or another user's")
            return
        rank = facts.node_rank
        self.heard.add(rank)
        if self.verdict:
            writer.write(self._last_words())
            return
        self.writers.append((rank, writer))
        if trouble := self._trouble_with(facts):
            await self.give_up(trouble)
            return
        async with self.changed:
            self.facts[rank] = facts
            self.addresses[rank] = (facts.address or peer, facts.link_port)
            self.changed.notify_all()
        try:
            report = msgspec.json.decode(await reader.readline(), type=Report)
        except (OSError, ValueError, RecursionError):  # the node ended: an empty line is not a report
            await self.give_up(_left(compare.name(self.facts, [rank])))
            return
        async with self.changed:
            self.reports[rank] = report
            self.changed.notify_all()

    async def give_up(self, *trouble: Finding) -> None:
        """Stop waiting for other nodes, because of `trouble`."""
        async with self.changed:
            self.trouble += trouble
            self.changed.notify_all()

    def _trouble_with(self, facts: Facts) -> Finding | None:
        """What is wrong with a node that makes waiting for more of them useless; None: nothing."""
        other = self.facts.get(facts.node_rank)
        if facts.run_id and self.node.run_id and facts.run_id != self.node.run_id:
            return Finding(
                f"{facts.host} belongs to another run ({facts.run_id}) than node 0 ({self.node.run_id}): "
                "two runs meet at one address and port",
                "give each run a MASTER_PORT of its own",
            )
        if other:
            first, second = sorted((other.host, facts.host))
            return Finding(
                f"NODE_RANK {facts.node_rank} is there twice: on {first} and on {second}",
                f"give each node a number of its own, from 0 to {self.node.nnodes - 1}",
            )
        for name, mine in (("nnodes", self.node.nnodes), ("nproc_per_node", self.node.nproc_per_node)):
            if facts.same.get(name) != str(mine):
                return Finding(
                    f"{name} is {facts.same.get(name)} on node {facts.node_rank} ({facts.host}) and {mine} on node 0",
                    "start every node with the same numbers of nodes and processes",
                )
        return None

    def _of_reports(self, names: dict[int, str]) -> list[Finding]:
        blind = [rank for rank, report in sorted(self.reports.items()) if not report.sees_output]
        found = [
            Finding(
                f"{names[rank]}: its clock differs from node 0's by {report.skew:+.0f} s",
                "tell the cluster's administrators: times of files and logs mislead",
                error=False,
            )
            for rank, report in sorted(self.reports.items())
            if abs(report.skew) > _SKEW
        ]
        if blind:
            found.append(
                Finding(
                    f"output_dir: {self.token.parent}: what node 0 writes there, {_ranks(blind)} does not see: it is "
                    "no shared folder, and a run that was interrupted could not go on",
                    "choose a folder on the shared file system (Kubernetes: a ReadWriteMany claim)",
                )
            )
        return found

    def _last_words(self) -> bytes:
        """The verdict, with the findings only: the facts of a thousand nodes, sent to as many, would be gigabytes."""
        return _line(Message(verdict=Verdict(findings=self.verdict.findings if self.verdict else [])))

    async def _flush(self) -> None:
        for _, writer in self.writers:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(PROMPT):
                    await writer.drain()


def _line(message: Message) -> bytes:
    return msgspec.json.encode(message) + b"\n"


def _missing(node: Node, arrived: dict[int, Facts], missing: list[int]) -> Finding:
    address = network.resolved(node.master_addr)
    is_loopback = network.is_loopback(address)
    remedy = "look into their logs: they may not have started, have another MASTER_ADDR, or be behind a firewall"
    there = ", ".join(f"{rank} on {facts.host}" for rank, facts in sorted(arrived.items()))
    return Finding(
        f"{_ranks(missing)} of {node.nnodes} never came to {node.master_addr}:{node.port}; here are {there or 'none'}",
        network.LOOPBACK.format(address=address) if is_loopback else remedy,
        retry=not is_loopback,
    )


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
    return f"node{'s' if len(ranks) > 1 else ''} {shown}"


def _silent(name: str) -> Finding:
    return Finding(f"{name} went silent while the links were tried", "leave it out (Slurm: --exclude)", retry=True)


def _left(name: str) -> Finding:
    return Finding(f"{name} left before it had reported", "look into its own log: it was ended, or failed", retry=True)
