"""What a node finds out about itself."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psutil  # type: ignore[import-untyped]
import pytest

from alignlaunch.train.config import Data, TrainConfig
from alignlaunch.train.preflight import facts, gpus, samples
from alignlaunch.train.preflight.node import Node
from alignlaunch.train.processes import network

NODE = Node(node_rank=0, nnodes=2, nproc_per_node=2, master_addr="h", master_port=29500, run_id="", direct=False)


def fake_nvidia_smi(monkeypatch: pytest.MonkeyPatch, folder: Path, *lines: str) -> Path:
    """A nvidia-smi that prints these lines and notes how it was called."""
    tool = folder / "nvidia-smi"
    text = "\n".join(lines)
    tool.write_text(f'#!/bin/sh\necho "$@" > {folder}/called\ncat << END\n{text}\nEND\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "called"


def test_gpus_as_nvidia_smi_lists_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    called = fake_nvidia_smi(
        monkeypatch,
        tmp_path,
        "NVIDIA H100 80GB HBM3, 81559, 81000, 9.0, 550.54.15",
        "Tesla V100-SXM2-32GB, 32768, 1024, 7.0, 550.54.15",
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-1b2c")
    first, second = gpus.visible()
    assert (first.name, first.bf16, second.bf16) == ("NVIDIA H100 80GB HBM3", True, False)
    assert (second.memory_gib, second.free_gib, second.driver) == (32.0, 1.0, "550.54.15")
    assert "--id=2,GPU-1b2c" in called.read_text()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert gpus.visible() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", "/nonexistent")
    assert gpus.visible() == []


def gathered(folder: Path, node: Node = NODE, **changes: str) -> facts.Facts:
    for name in ("model", "data"):
        (folder / name).mkdir(exist_ok=True)
    resolved = folder / "job.resolved.yaml"
    resolved.write_text("name: x\n")
    given = {"name": "x", "stage": "sft", "model": str(folder / "model"), "output_dir": str(folder / "out")}
    job = TrainConfig(data=Data(train=[str(folder / "data")]), **(given | changes))  # type: ignore[arg-type]
    return facts.gather(node, job, resolved)


def test_fewer_gpus_than_processes_and_a_gpu_that_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake_nvidia_smi(monkeypatch, tmp_path, "H100, 81559, 1000, 9.0, 550")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found = gathered(tmp_path)
    assert found.findings[0].text == "nproc_per_node is 2, but 1 GPUs are visible (CUDA_VISIBLE_DEVICES 0)"
    assert found.findings[1].text == "GPU 0: only 1.0 of 79.6 GiB are free"
    assert [finding.error for finding in found.findings[:2]] == [True, False]
    assert (found.same["GPUs"], found.same["GPU type"], found.same["driver"]) == ("1", "H100 80 GiB", "550")


def test_what_is_compared_is_there(tmp_path: Path) -> None:
    same = gathered(tmp_path).same
    assert same["nnodes"] == "2"
    assert same["job.resolved.yaml"].startswith("1 file, 8 bytes, ")
    for name in ("python", "torch", "transformers", "deepspeed", "NCCL", "CUDA of torch", "alignlaunch's code"):
        assert same[name], name
    assert "torch" not in {name for name, value in same.items() if value == "none"}
    assert same["model"].startswith("0 files, 0 bytes, ")
    assert gathered(tmp_path, model="owner/name").same["model"] == "missing"  # on all nodes: perhaps a hub id


def test_nodes_that_try_one_folder_at_once_do_not_meet_there(tmp_path: Path) -> None:
    """Process ids do not tell them apart: they are the same in many pods."""
    with ThreadPoolExecutor(8) as nodes:
        found = list(nodes.map(lambda _: gathered(tmp_path).findings, range(64)))
    assert not [finding for one in found for finding in one if "output_dir" in finding.text]


def test_a_sample_sees_names_sizes_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "deep/__pycache__").mkdir(parents=True)
    for number in range(40):
        (folder / f"deep/{number:02}.json").write_text("x" * number)
    before = samples.of(folder)
    assert before.startswith("40 files, 780 bytes, ")
    (folder / "deep/__pycache__/a.pyc").write_text("compiled")
    (folder / "deep/.lock").write_text("held")
    assert samples.of(folder) == before
    (folder / "deep/00.json").rename(folder / "deep/99.json")
    assert samples.of(folder) != before
    (folder / "deep/99.json").rename(folder / "deep/00.json")
    (folder / "deep/05.json").write_text("yyyyy")  # one of those that are read
    assert samples.of(folder) != before
    assert samples.of(tmp_path / "none") == "missing"


def test_a_sample_takes_any_name(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    assert samples.of(tmp_path).startswith("1 file, 1 bytes, ")


def test_the_address_of_an_interface_is_one_that_others_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "ib0": [(socket.AF_INET6, "fe80::1%ib0"), (socket.AF_INET6, "fd00::1"), (socket.AF_INET6, "fd00::2")],
        "eth0": [(socket.AF_INET6, "fd00::3"), (socket.AF_INET, "10.0.0.1"), (socket.AF_INET, "10.0.0.99")],
        "down": [(socket.AF_INET6, "fe80::2%down")],
    }
    addresses = {
        name: [SimpleNamespace(family=family, address=address) for family, address in own]
        for name, own in found.items()
    }
    monkeypatch.setattr("psutil.net_if_addrs", lambda: addresses)
    assert [network.address_of(name) for name in found] == ["fd00::1", "10.0.0.1", None]


def test_an_interface_may_be_a_prefix_and_must_be_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert network.interface_named("lo") == "lo"
    assert network.address_of("lo") == "127.0.0.1"
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "^docker0")
    assert network.chosen_interface() is None  # all but one: torch chooses
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "=ib7")
    (finding,) = [one for one in gathered(tmp_path).findings if "network_interface" in one.text]
    assert "is ib7, but this node has lo" in finding.text


def test_the_interface_towards_an_address() -> None:
    assert network.interface_towards("127.0.0.1") is None
    assert network.interface_towards("no such host") is None
    for name, addresses in psutil.net_if_addrs().items():
        for one in addresses:
            if one.family == socket.AF_INET and not network.is_loopback(one.address):
                assert network.interface_towards(one.address) == name
