"""What the machine's own tools say of it, however they fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.backends.gpus import Gpus
from alignlaunch.launchers.starter import machine

from .tools import HANGS, TWO_GPUS, path_of, says

RECORDINGS = Path(__file__).parents[2] / "slurm" / "recordings"
PATIENT = 60


@pytest.fixture(autouse=True)
def _all_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float = PATIENT, **scripts: str) -> machine.Machine:
    monkeypatch.setenv("PATH", path_of(tmp_path, **scripts))
    return machine.ask(seconds)


def test_a_machine_without_any_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(tmp_path, monkeypatch) == machine.Machine(Gpus(0, ""), [], [])


@pytest.mark.parametrize("version", [path.name for path in sorted(RECORDINGS.glob("alignlaunch-*"))])
def test_what_slurm_really_prints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    asked, *said = (RECORDINGS / version / "sinfo.txt").read_text().splitlines(keepends=True)
    found = ask(tmp_path, monkeypatch, nvidia_smi=says(TWO_GPUS), sinfo=says("".join(said)))
    assert (found.gpus, found.troubles) == (Gpus(2, "nvidia-smi"), [])
    chosen = machine.partition(found.nodes)
    assert chosen is not None
    assert (chosen.kind.partition, machine.per_node(chosen.kind)) == ("gpu", 4)
    assert asked.split()[1:] == ["sinfo", "--noheader", "--exact", "--format=%P|%l|%D|%c|%G"]


def test_only_what_the_user_may_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert ask(tmp_path, monkeypatch, nvidia_smi=says(TWO_GPUS)).gpus == Gpus(1, "CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        (
            says("Failed to initialize NVML: Driver/library version mismatch\n", 18),
            "Failed to initialize NVML: Driver/",
        ),
        (says("No devices were found\n", 6), "No devices were found"),
        (says("", 9), "exit code 9"),
        (says("hello\n"), "hello"),
        ("printf '\\377\\376'; exit 1", ""),
    ],
)
def test_a_driver_that_fails_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, trouble: str
) -> None:
    found = ask(tmp_path, monkeypatch, nvidia_smi=script)
    assert found.gpus.number == 0
    assert found.troubles[0].startswith(f"nvidia-smi: {trouble}")


@pytest.mark.parametrize(
    ("script", "trouble"),
    [
        (
            "echo 'slurm_load_partitions: Unable to contact slurm controller (connect failure)' >&2; exit 1",
            "sinfo: slurm_load_partitions: Unable to contact slurm controller (connect failure)",
        ),
        (
            "echo 'sinfo: error: a' >&2; echo 'sinfo: fatal: Could not establish a configuration source' >&2; exit 1",
            "sinfo: fatal: Could not establish a configuration source",
        ),
        ("echo what is this", "sinfo: what is this"),
        ("exit 1", "sinfo: exit code 1"),
    ],
)
def test_a_slurm_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, trouble: str) -> None:
    found = ask(tmp_path, monkeypatch, nvidia_smi=says(TWO_GPUS), sinfo=script)
    assert (found.gpus.number, found.nodes, found.troubles) == (2, [], [trouble])


def test_tools_that_hang_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ask(tmp_path, monkeypatch, 0.5, nvidia_smi=HANGS, sinfo=HANGS)
    assert found.troubles == ["nvidia-smi: no answer in 0.5 s", "sinfo: no answer in 0.5 s"]


def test_a_tool_that_cannot_be_started_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(path_of(tmp_path, nvidia_smi="", sinfo=""))
    for name in ("nvidia-smi", "sinfo"):
        (path / name).write_bytes(b"\x7fELF not a program")
    monkeypatch.setenv("PATH", str(path))
    found = machine.ask(PATIENT)
    assert [trouble.partition(":")[0] for trouble in found.troubles] == ["nvidia-smi", "sinfo"]
