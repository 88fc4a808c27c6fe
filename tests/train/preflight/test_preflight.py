"""Preflight between real nodes: namespaces with addresses of their own, and every fault provoked."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from bench.preflight.faults import FAULTS, Fault, Outcome, outcomes, prepare, provoke
from bench.preflight.nodes import Place, place

TIMEOUT = 8
COMMAND = [sys.executable, "-m", "alignlaunch.train.preflight", "--timeout", str(TIMEOUT), "job.resolved.yaml"]
LAUNCHER = ["--", "echo", "launched"]
HEALTHY = Fault(name="none", said="passed: 2 nodes x 1 at node-0:29500", code=0)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("nodes"), 5) as made:
        prepare(made.folder)
        yield made


def run(nodes: Place, fault: Fault) -> dict[int, Outcome]:
    """What became of each node. One that has not ended in a minute is killed, and its code is not that of an answer."""
    return provoke(nodes, fault, COMMAND + LAUNCHER, patience=60)


def test_nodes_that_are_well_become_the_launcher(nodes: Place) -> None:
    found = run(nodes, HEALTHY)
    assert [one.code for one in found.values()] == [0, 0], found
    assert HEALTHY.said in found[0].said
    assert "links: 2, " in found[0].said
    assert found[0].said.endswith("launched\n")
    assert found[1].said == "launched\n"  # only node 0 tells
    assert not list((nodes.folder / "output").iterdir())


@pytest.fixture(scope="module")
def told() -> dict[str, dict[int, Outcome]]:
    """Of each fault, what became of its nodes. Several at once, between nodes of their own: they mostly wait."""
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda fault: outcomes(fault, COMMAND + LAUNCHER, 60), FAULTS)
        return dict(zip((fault.name for fault in FAULTS), found, strict=True))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_every_fault_is_told_on_every_node(told: dict[str, dict[int, Outcome]], fault: Fault) -> None:
    found = told[fault.name]
    words = "\n".join(f"node {node}: exit {one.code}, {one.seconds:.0f} s\n{one.said}" for node, one in found.items())
    codes = {one.code for one in found.values()}
    assert fault.code in codes, words
    assert codes <= {fault.code, 3}, words
    assert fault.said in words
    for one in found.values():
        assert "launched" not in one.said, words
        assert "remedy: " in one.said or "node 0 has told all of it" in one.said, words
        assert "Traceback" not in one.said, words


def test_a_slow_link_is_named(nodes: Place) -> None:
    """Four nodes; the third one's packets go out at 20 Mbit/s, which is still no time-out."""
    slow = Fault(
        name="slow",
        before={2: "tc qdisc add dev eth0 root tbf rate 20mbit burst 64k latency 400ms"},
        after={2: "tc qdisc del dev eth0 root"},
        nnodes=4,
        started=(0, 1, 2, 3),
        said="warning: node 2 (node-2): the best link out of it carries 0.002 GB/s",
        code=0,
    )
    found = run(nodes, slow)
    assert {one.code for one in found.values()} == {0}, found
    assert slow.said in found[0].said
    assert set(re.findall(r"warning: (node \d)", found[0].said)) == {"node 2"}, found[0].said


def test_a_pod_that_comes_back_alone_goes_on(nodes: Place) -> None:
    """The others are past preflight by then, and will not come to it again."""
    run_of_pods = {n: {"ALIGNLAUNCH_RUN_ID": "run-1"} for n in (0, 1)}
    found = run(nodes, replace(HEALTHY, env=run_of_pods))
    assert {one.code for one in found.values()} == {0}, found
    for node in (0, 1):
        alone = run(nodes, replace(HEALTHY, env=run_of_pods, started=(node,)))[node]
        assert alone.code == 0, alone
        assert "passed before in this run, so it goes on" in alone.said
        assert alone.said.endswith("launched\n")
    (differing,) = (fault for fault in FAULTS if fault.name == "job.resolved.yaml differs")
    anew = run(nodes, replace(differing, env=run_of_pods))  # all pods are new, and not alike
    assert {one.code for one in anew.values()} == {2}, anew
    other_run = {1: {"ALIGNLAUNCH_RUN_ID": "run-2"}}
    assert run(nodes, replace(HEALTHY, env=other_run, started=(1,)))[1].code == 3
    (nodes.folder / "output/.preflight-passed-run-1").unlink()
