"""Meetings within one process: many nodes at once, and what real namespaces do not show."""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from alignlaunch.train.errors import UserError
from alignlaunch.train.preflight import compare, guest, handshake, links, meeting, node
from alignlaunch.train.preflight.facts import Facts
from alignlaunch.train.preflight.findings import FailedError, Finding, exit_code
from alignlaunch.train.preflight.links import Link
from alignlaunch.train.preflight.messages import Verdict
from alignlaunch.train.preflight.node import Node
from tests.support.ports import free_port


def ignore(_: object) -> None:
    """What is said and shown."""


def node_of(nnodes: int, **changes: Any) -> Node:
    first = Node(
        node_rank=0,
        nnodes=nnodes,
        nproc_per_node=8,
        master_addr="127.0.0.1",
        master_port=free_port(),
        run_id="1",
        direct=False,
    )
    return replace(first, **changes)


def facts_of(rank: int, nnodes: int, **same: str) -> Facts:
    return Facts(
        node_rank=rank,
        run_id="1",
        host=f"gpu-{rank}",
        machine=f"machine {rank}",
        address=None,
        gloo_loopback=None,
        same={"nnodes": str(nnodes), "nproc_per_node": "8", "torch": "2.13.0"} | same,
        findings=[],
    )


def meet(
    nnodes: int, folder: Path, *, timeout: float = 10, changed: dict[int, Facts] | None = None, payload: int = 4096
) -> list[Verdict | BaseException]:
    first = node_of(nnodes)

    async def all_of_them() -> list[Verdict | BaseException]:
        meetings = (
            meeting.meet(
                replace(first, node_rank=rank),
                (changed or {}).get(rank, facts_of(rank, nnodes)),
                timeout,
                folder,
                ignore,
                ignore,
                payload=payload,
            )
            for rank in range(nnodes)
        )
        return await asyncio.gather(*meetings, return_exceptions=True)

    return asyncio.run(all_of_them())


def test_1024_nodes_meet_in_ten_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them on the one core of this process: it is that core's time that counts.

    The patience of nodes and links is wall-clock time of a node with cores of its own; here a transfer lasts as long as
    1,023 others beside it, and as whatever else this machine does.
    """
    monkeypatch.setattr(links, "DEADLINE", 600.0)
    start = time.process_time()
    verdicts = meet(1024, tmp_path, timeout=600, payload=256)
    seconds = time.process_time() - start
    assert not [v for v in verdicts if isinstance(v, BaseException)], verdicts[0]
    first = verdicts[0]
    assert isinstance(first, Verdict)
    assert [finding for finding in first.findings if finding.error] == []
    assert len(first.nodes) == 1024
    assert len(first.links) == 10 * 1024
    assert all(link.seconds is not None for link in first.links)
    assert seconds < 20, seconds


def test_one_of_many_differs_and_all_hear_of_it(tmp_path: Path) -> None:
    odd = facts_of(37, 64, torch="2.12.0")
    for verdict in meet(64, tmp_path, changed={37: odd}):
        assert isinstance(verdict, Verdict)
        assert exit_code(verdict.findings) == 2
        assert "2.12.0 on node 37 (gpu-37)" in verdict.findings[0].text


@pytest.mark.parametrize("nnodes", [2, 3, 7, 8, 100])
def test_every_node_sends_to_some_and_hears_from_as_many(nnodes: int) -> None:
    sent = [links.partners(rank, nnodes) for rank in range(nnodes)]
    assert {len(one) for one in sent} == {(nnodes - 1).bit_length()}
    heard = [sum(rank in one for one in sent) for rank in range(nnodes)]
    assert set(heard) == {len(sent[0])}
    assert all(rank not in one for rank, one in enumerate(sent))


def links_of(nnodes: int, **seconds: float | None) -> list[Link]:
    """Links of 0.01 s, but for those that touch a node named here: `_2=None`."""
    odd = {int(name[1:]): value for name, value in seconds.items()}
    return [
        Link(source, target, next((odd[n] for n in (source, target) if n in odd), 0.01), "no answer")
        for source in range(nnodes)
        for target in links.partners(source, nnodes)
    ]


def test_the_node_is_named_whose_links_all_fail() -> None:
    names = {rank: f"node {rank}" for rank in range(8)}
    (found,) = links.findings(links_of(8, _5=None), names)
    assert found.text == "node 5: none of its 6 links to other nodes works: no answer"
    assert (found.error, found.retry) == (True, True)
    found, other = links.findings(links_of(8, _5=0.1), names)
    assert found.text == "node 5: the best link out of it carries 0.084 GB/s, the median node's 0.839"
    assert other.text == "node 5: the best link into it carries 0.084 GB/s, the median node's 0.839"
    assert not found.error
    one = [link._replace(seconds=None) if link[:2] == (3, 4) else link for link in links_of(8)]
    assert [finding.text for finding in links.findings(one, names)] == ["node 3 cannot send to node 4: no answer"]
    assert links.findings(links_of(8), names) == []


def test_some_differences_are_worth_a_word_only() -> None:
    nodes = {
        rank: facts_of(rank, 3, **{"GPU type": f"H{rank // 2 + 1}00", "driver": "550", "MTU": "9000"})
        for rank in range(3)
    }
    (found,) = compare.findings(nodes)
    assert found.text == "GPU type differs: H100 on nodes 0, 1; H200 on node 2 (gpu-2)"
    assert exit_code([found]) == 0


def test_a_clock_that_is_wrong_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = guest._report

    async def late(*given: Any) -> Any:
        found = await report(*given)
        return msgspec.structs.replace(found, skew=120.0) if given[0].node_rank == 1 else found

    monkeypatch.setattr(guest, "_report", late)
    verdict = meet(2, tmp_path)[1]
    assert isinstance(verdict, Verdict)
    assert [finding.text for finding in verdict.findings] == [
        "node 1 (gpu-1): its clock differs from node 0's by +120 s"
    ]
    assert exit_code(verdict.findings) == 0


def test_a_node_that_leaves_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = guest._report

    async def lost(*given: Any) -> Any:
        if given[0].node_rank == 2:
            raise OSError(5, "killed")
        return await report(*given)

    monkeypatch.setattr(guest, "_report", lost)
    verdicts = meet(3, tmp_path)
    assert isinstance(verdicts[2], FailedError)
    for verdict in verdicts[:2]:
        assert isinstance(verdict, Verdict)
        assert "node 2 (gpu-2) left before it had reported" in [finding.text for finding in verdict.findings]
        assert exit_code(verdict.findings) == 3


def test_a_node_that_goes_silent_is_named_and_holds_nobody(tmp_path: Path) -> None:
    """Neither node 0 nor whoever it has called waits for its connections to end: Python 3.12's server would."""
    first = node_of(2)

    async def scenario() -> Verdict:
        host = asyncio.create_task(meeting.meet(first, facts_of(0, 2), 3, tmp_path, ignore, ignore))
        await asyncio.sleep(0.3)
        reader, writer = await asyncio.open_connection("127.0.0.1", first.port)
        await handshake.as_guest(reader, writer, "")
        with socket.create_server(("127.0.0.1", 0)) as mute:
            facts = msgspec.structs.replace(facts_of(1, 2), link_port=mute.getsockname()[1])
            writer.write(msgspec.json.encode(facts) + b"\n")
            async with asyncio.timeout(30):
                verdict = await host
        writer.close()
        return verdict

    verdict = asyncio.run(scenario())
    assert "node 1 (gpu-1) went silent while the links were tried" in [finding.text for finding in verdict.findings]
    assert exit_code(verdict.findings) == 3


def test_strangers_do_not_disturb(tmp_path: Path) -> None:
    """A port scanner and a web browser knock while the nodes meet."""
    first = node_of(2)

    async def scenario() -> list[Any]:
        host = asyncio.create_task(meeting.meet(first, facts_of(0, 2), 10, tmp_path, ignore, ignore))
        await asyncio.sleep(0.5)
        for words in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 1000 + b"\n"):
            _, writer = await asyncio.open_connection("127.0.0.1", first.port)
            writer.write(words)
            writer.close()
        guest = meeting.meet(replace(first, node_rank=1), facts_of(1, 2), 10, tmp_path, ignore, ignore)
        return list(await asyncio.gather(host, guest))

    for verdict in asyncio.run(scenario()):
        assert exit_code(verdict.findings) == 0


@pytest.mark.parametrize("rank", [0, 1])
def test_a_node_that_comes_back_alone_is_told_that_node_0_has_launched(
    rank: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a person starts the script of a lost node again: nobody is in preflight any more to be met."""
    monkeypatch.setattr(guest, "LATE", 0.1)
    node = replace(node_of(2), node_rank=rank)
    attend = guest.attend(node, facts_of(rank, 2), 2, tmp_path, ignore)
    with socket.create_server(("127.0.0.1", node.master_port)):
        expected = FailedError if rank == 0 else guest.LaunchedError  # node 0's own launcher is not there yet
        with pytest.raises(expected):
            asyncio.run(attend)


def test_exit_codes() -> None:
    again, never, word = Finding("", "", retry=True), Finding("", ""), Finding("", "", error=False)
    assert [exit_code(found) for found in ([], [word], [again, word], [again, never], [never])] == [0, 0, 3, 2, 2]


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PET_NNODES": "2", "PET_MASTER_ADDR": "h"}, "PET_NODE_RANK is not set"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "0"}, "PET_MASTER_ADDR is not set, but PET_NNODES=2"),
        ({"PET_NNODES": "two"}, "PET_NNODES='two' is not a number from 1"),
        ({"PET_NNODES": "0"}, "PET_NNODES='0' is not a number from 1"),
        ({"PET_MASTER_PORT": "-1"}, "PET_MASTER_PORT='-1' is not a number from 1"),
        ({"PET_MASTER_PORT": "70000"}, "PET_MASTER_PORT='70000' is not a number from 1 to 65535"),
        ({"PET_NNODES": "2", "PET_NODE_RANK": "2", "PET_MASTER_ADDR": "h"}, "goes from 0 to 1"),
    ],
)
def test_variables_that_cannot_be(env: dict[str, str], said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        node.read(env)
    assert "remedy: " in str(caught.value)


def test_the_run_is_named_by_a_step_and_not_by_a_shell_of_salloc() -> None:
    job = {"SLURM_JOB_ID": "7"}
    assert [node.read(job | more).run_id for more in ({}, {"SLURM_STEP_ID": "0"})] == ["", "7"]


def test_one_node_needs_no_variables() -> None:
    assert node.read({}) == Node(
        node_rank=0, nnodes=1, nproc_per_node=1, master_addr="127.0.0.1", master_port=29500, run_id="", direct=False
    )
    assert node_of(1, master_port=29500).port == 19500
    assert node_of(1, master_port=1234).port == 11234
