"""Offload to the CPU changes where the optimizer's state and the weights are kept, and no figure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.matrix import matrix

from .conftest import ROOT, Finished, Runner

NAMES = ("zero1_offload", "zero2_offload", "zero3_offload_optimizer", "zero3_offload_all")


@pytest.fixture(scope="module")
def alone(run_job: Runner) -> Finished:
    """One process without ZeRO; two accumulated micro-batches for the two processes."""
    found = run_job("offload-alone", train={"gradient_accumulation_steps": 2})
    assert found.code == 0, found.stderr
    return found


@pytest.mark.parametrize("name", [matrix(name) for name in NAMES])
def test_two_processes_equal_one(name: str, run_job: Runner, alone: Finished) -> None:
    found = run_job(f"offload-{name}", nproc=2, zero=str(ROOT / "zero_configs" / f"{name}.json"))
    assert found.code == 0, found.stderr
    for metric in ("loss", "grad_norm"):
        assert len(alone.logged(metric)) == 4
        assert found.logged(metric) == pytest.approx(alone.logged(metric), abs=1e-4), metric


def test_nvme_without_libaio_is_told(run_job: Runner) -> None:
    builder: Any = pytest.importorskip("deepspeed.ops.op_builder").AsyncIOBuilder()
    if builder.is_compatible():
        pytest.skip("libaio is here")
    found = run_job("offload-nvme", nproc=2, zero=str(ROOT / "zero_configs" / "zero3_offload_nvme.json"))
    assert found.code == 1  # torchrun's own
    assert found.stderr.count("offload to nvme needs libaio with its headers") == 1
    assert "session.py" not in found.stderr, "a traceback of ours"
