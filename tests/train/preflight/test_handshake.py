"""Who does not know the run's token cannot take part in its preflight, on either side, and disturbs nobody who does."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from alignlaunch.train.preflight import handshake, meeting, sockets
from alignlaunch.train.preflight.findings import FailedError
from alignlaunch.train.preflight.messages import Message, Verdict

from .test_meeting import facts_of, ignore, node_of


async def knock(port: int, *lines: bytes) -> bytes:
    """What node 0 answers to a connection that sends these lines, from 127.0.0.9."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
    greeting = await reader.readline()
    nonce = greeting.removeprefix(handshake.GREETING).strip()
    for line in lines:
        writer.write(line.replace(b"NONCE", nonce) + b"\n")
    answer = await reader.read()
    writer.close()
    return answer


STRANGERS = {
    "a wrong token": b"aa " + b"0" * 64,
    "no token": b"aa " + handshake._proof("", b"guest", b"NONCE", b"aa"),
    "the proof of node 0": b"aa " + handshake._proof("secret", b"host", b"NONCE", b"aa"),
    "a proof that was seen before": b"aa " + handshake._proof("secret", b"guest", b"0" * 32, b"aa"),
    "facts at once": msgspec.json.encode(facts_of(1, 2)),
    "a line without end": b"x" * 100_000,
    "bytes": bytes(range(128, 256)) + b" " + bytes(range(128, 256)),
}


@pytest.mark.parametrize("first", STRANGERS.values(), ids=STRANGERS)
def test_a_stranger_is_refused_and_the_nodes_still_meet(tmp_path: Path, first: bytes) -> None:
    node, said = node_of(2, token="secret"), list[str]()
    evil = msgspec.json.encode(facts_of(1, 2, torch="0.0.1"))

    async def all_of_them() -> list[object]:
        def meet(rank: int) -> asyncio.Task[Verdict]:
            one = replace(node, node_rank=rank)
            return asyncio.create_task(
                meeting.meet(one, facts_of(rank, 2), 20, tmp_path, said.append, ignore, payload=4096)
            )

        begun = meet(0)
        for _ in range(200):
            try:
                answer = await knock(node.port, first, evil)
                break
            except OSError:
                await asyncio.sleep(0.05)
        answers = [answer, await knock(node.port, first, evil)]
        return [answers, *await asyncio.gather(begun, meet(1))]

    answers, *verdicts = asyncio.run(all_of_them())
    is_answer = first.count(b" ") == 1 and len(first) < 256  # and not a port scan's
    assert answers == [b"refused\n" if is_answer else b""] * 2
    for verdict in verdicts:
        assert isinstance(verdict, Verdict)
        assert not [finding for finding in verdict.findings if finding.error]
    refusals = [line for line in said if "refused" in line]
    told = "refused 127.0.0.9, which does not know this run's token: it is another run's or another user's"
    assert refusals == [told] * is_answer  # once


@pytest.mark.parametrize("token", ["", "guessed"])
def test_a_node_does_not_believe_a_false_node_0(tmp_path: Path, token: str) -> None:
    """Somebody has taken the port: sends a verdict that all is well, or that the run must end."""
    node = node_of(2, token="secret", node_rank=1)

    async def false_host(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(handshake.GREETING + b"aa\n")
        other = (await reader.readline()).split(b" ")[0]
        writer.write(handshake._proof(token, b"host", b"aa", other) + b"\n")
        writer.write(msgspec.json.encode(Message(verdict=Verdict(findings=[]))) + b"\n")

    async def attend() -> Verdict:
        taken: socket.socket = sockets.listening(node.port)
        async with sockets.serving(false_host, taken, 1 << 16):
            return await meeting.meet(node, facts_of(1, 2), 1, tmp_path, ignore, ignore)

    with pytest.raises(FailedError) as caught:
        asyncio.run(attend())
    (finding,) = caught.value.findings
    assert f"127.0.0.1:{node.port} (MASTER_ADDR): a preflight answers there that does not know this run's token" in (
        finding.text
    )
    assert finding.retry


def test_the_token_is_in_no_repr() -> None:
    assert "secret" not in repr(node_of(2, token="secret"))
