"""What a training process finds: checkpoints and their manifests, requests, a resolved job, messages of nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from hypothesis import strategies as st

from alignlaunch.train import config
from alignlaunch.train.errors import UserError
from alignlaunch.train.outputs import checkpoints, manifest, sameness
from alignlaunch.train.outputs.checkpoints import Attempt
from alignlaunch.train.preflight import compare, links, report
from alignlaunch.train.preflight.facts import Facts
from alignlaunch.train.preflight.messages import Message, Report, Verdict
from alignlaunch.train.processes import hang, requests

from .jobs import text_of
from .records import at
from .target import Target
from .values import altered, damaged

_ROOT = Path(__file__).parents[2]
RESOLVED = [path.read_bytes() for path in sorted((_ROOT / "tests/goldens").glob("*/*/job.resolved.yaml"))]
MANIFEST = {
    **{"step": 4, "epoch": 0.5, "records": 32, "rows": 64, "processes": 2, "zero_stage": 0, "run_id": "/r/tiny-1"},
    **{"job": {"stage": "sft", "train.learning_rate": 2e-5}, "written": "2026-11-28T10:11:12+0000"},
    "files": [
        {"path": "model.safetensors", "size": 4, "digest": "0" * 32, "rank": 0},
        {"path": "optimizer.pt", "size": 4, "digest": "0" * 32, "rank": 0},
        {"path": "rng_state_1.pth", "size": 4, "digest": "0" * 32, "rank": 1},
    ],
    **{"logged": 3, "unlogged": [1.0, 2.0], "evaluation_due": False},
}
FACTS = {
    **{"node_rank": 0, "run_id": "r", "host": "n1", "machine": "m", "address": None, "link_port": 5},
    **{"gloo_loopback": None, "same": {"torch": "2.13", "model": "abc"}, "findings": [["text", "remedy", True, False]]},
}
LINK = [0, 1, 0.01, ""]
REPORT = {"links": [LINK, [1, 0, None, "no answer"]], "skew": 0.1, "sees_output": True}
MESSAGES = [
    {"go": {"peers": {"0": ["127.0.0.1", 5], "1": ["127.0.0.2", 6]}, "time": 1.5, "token": ".preflight-ab"}},
    {"verdict": {"findings": [["text", "remedy", True, False]]}},
]
HANG = {
    **{"rank": 0, "host": "n1", "pid": 5, "phase": "step", "step": 3, "place": 9, "seconds": 400, "limit": 300},
    **{"state": "T (stopped)", "waiting": False},
}
_NOTES = (checkpoints.FAILED_STARTS, checkpoints.STARTS, checkpoints.OWNER, checkpoints.INCOMPLETE)


def _checkpoints(folder: Path, value: tuple[Any, bytes, str]) -> None:
    """Two checkpoints, the later with this manifest; and a file beside them that a run leaves there."""
    found, note, name = value
    for step in (2, 4):
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir()
        for file in ("trainer_state.json", "model.safetensors", "optimizer.pt", "rng_state_1.pth"):
            (checkpoint / file).write_bytes(b"abcd")
    (folder / "checkpoint-4" / manifest.NAME).write_bytes(text_of(found))
    (folder / name).write_bytes(note)


def _use_checkpoints(folder: Path, value: object) -> None:
    del value
    attempt = Attempt("/r/tiny-1", 1)
    for one in checkpoints.candidates(folder, None, attempt):
        whole = manifest.read(one)
        if whole:
            manifest.changed(one, whole, 0, 2)
            manifest.changed(one, whole, 0, 3)
            sameness.differences(whole.job, {"stage": "sft"})
            assert whole.has_optimizer in (True, False)
    assert not checkpoints.other_split(checkpoints.zero_files(folder / "checkpoint-4"), 0, 2)
    checkpoints.record_failed_start(folder / "checkpoint-4", "t")
    checkpoints.record_start(folder, attempt)
    checkpoints.claim(folder, folder / "checkpoint-4", attempt)


def _use_request(folder: Path, value: object) -> None:
    del value
    if requests.read(folder, "/r/tiny-1"):
        requests.carried_out(folder, requests.Request.STOP, "/r/tiny-1")


def _use_resolved(folder: Path, value: object) -> None:
    del value
    config.trusts_remote_code((folder / "job.resolved.yaml").read_text(encoding="utf-8", errors="replace"))
    try:
        job = config.load(folder / "job.resolved.yaml")
    except ValueError as error:
        raise UserError(str(error)) from error  # as the entrypoint does
    sameness.of(job)
    config.checkpoint_named(job.resume)


def _decoded(line: bytes, kind: type[Any]) -> Any:
    """As host and guest take a line."""
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"not understood: {error}") from error


def _use_facts(_: Path, value: tuple[bytes, bytes]) -> None:
    facts, told = _decoded(value[0], Facts), _decoded(value[1], Report)
    nodes = {0: facts, 1: msgspec.structs.replace(facts, node_rank=1, same=facts.same | {"torch": "2.12"})}
    found = compare.findings(nodes)
    names = dict.fromkeys((end for link in told.links for end in (link.source, link.target)), "n")
    report.table(Verdict(findings=found + links.findings(told.links, names), nodes=nodes, links=told.links))


def _use_message(_: Path, value: bytes) -> None:
    message = _decoded(value, Message)
    for finding in message.verdict.findings if message.verdict else ():
        assert str(finding)


def _use_hang(folder: Path, value: object) -> None:
    del value
    reports = hang.read(folder)
    if reports:
        ranks = hang.behind(reports, [0])
        hang.are_overdue(ranks, reports)
        hang.verdict(reports, ranks, 2, folder)


def json_like(base: Any) -> st.SearchStrategy[bytes]:
    return altered(base).map(text_of) | damaged([text_of(base)])


_note = st.one_of(
    damaged([b"checkpoint-4 ab\n", b"2026-11-28T10:11:12+0000\n" * 5, b"/r/tiny-1"]), st.just(b"/r/tiny-1")
)

TARGETS = {
    "checkpoints": Target(
        st.tuples(json_like(MANIFEST), _note, st.sampled_from(_NOTES)), _use_checkpoints, _checkpoints
    ),
    "requests": Target(damaged([b"stop /r/tiny-1\n", b"save /r/tiny-1"]), _use_request, at(requests.REQUEST)),
    "resolved jobs": Target(damaged(RESOLVED), _use_resolved, at("job.resolved.yaml")),
    "preflight: facts and reports": Target(st.tuples(json_like(FACTS), json_like(REPORT)), _use_facts),
    "preflight: node 0's messages": Target(st.sampled_from(MESSAGES).flatmap(json_like), _use_message),
    "reports of a hang": Target(
        json_like(HANG).map(lambda facts: facts + b'\n\nCurrent thread\n  File "a.py", line 3 in f\n'),
        _use_hang,
        at("rank-00000.txt"),
    ),
}
