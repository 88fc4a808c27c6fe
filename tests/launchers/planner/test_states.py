"""Model states: the ZeRO paper's figures, DeepSpeed's estimators, the documents' table."""

from __future__ import annotations

from typing import Any

import pytest

from alignlaunch.launchers.planner import documents, states
from alignlaunch.launchers.planner.states import MIXED, Offload

BILLION = 10**9


@pytest.mark.parametrize(
    ("billions", "stage", "gpus", "published"),
    [
        (7.5, 0, 64, 120),
        (7.5, 1, 64, 31.4),
        (7.5, 2, 64, 16.6),
        (7.5, 3, 64, 1.9),
        (7.5, 1, 4, 52.5),
        (7.5, 2, 4, 41.25),
        (7.5, 3, 4, 30),
        (128, 1, 64, 536),
        (128, 2, 64, 284),
        (128, 3, 64, 32),
        # The 32B table of the documents by the paper's 16 bytes a parameter.
        (32, 0, 8, 512),
        (32, 1, 8, 176),
        (32, 2, 8, 120),
        (32, 3, 8, 64),
    ],
)
def test_the_zero_papers_figures(billions: float, stage: int, gpus: int, published: float) -> None:
    found = sum(states.sharded(billions * BILLION, MIXED, stage, gpus)) / BILLION
    assert round(found, 2 if published == 41.25 else 1) == published


@pytest.mark.parametrize(
    ("stage", "offload"),
    [(2, "none"), (2, "optimizer"), (3, "none"), (3, "optimizer"), (3, "optimizer+param")],
)
@pytest.mark.parametrize(("nodes", "gpus"), [(1, 1), (1, 8), (4, 8)])
@pytest.mark.parametrize(("parameters", "largest"), [(2_783_000_000, 65_000_000), (32_763_876_352, 778_567_680)])
def test_deepspeeds_estimators(
    offload: Offload, stage: int, nodes: int, gpus: int, parameters: int, largest: int
) -> None:
    from deepspeed.runtime.zero import stage3, stage_1_and_2  # type: ignore[import-untyped]

    place: dict[str, Any] = {"num_gpus_per_node": gpus, "num_nodes": nodes, "cpu_offload": offload != "none"}
    if stage == 2:
        host, gpu = stage_1_and_2.estimate_zero2_model_states_mem_needs(parameters, **place)
    else:
        host, gpu, _ = stage3.estimate_zero3_model_states_mem_needs(
            parameters, largest, cpu_offload_params=offload == "optimizer+param", **place
        )
    found = states.deepspeed_estimate(parameters, largest, stage, nodes=nodes, gpus=gpus, offload=offload)
    assert found.gpu == pytest.approx(gpu, rel=1e-6)
    assert found.host == pytest.approx(host, rel=1e-6)


@pytest.mark.parametrize(
    ("gpus", "offload", "gpu", "host"),
    [
        (1, "optimizer+param", 0.25, 70.00),
        (1, "optimizer", 5.43, 62.23),
        (1, "none", 46.91, None),
        (2, "optimizer+param", 0.25, 70.00),
        (2, "optimizer", 2.84, 62.23),
        (2, "none", 23.58, None),
    ],
)
def test_t0_3b_as_hugging_face_documents_it(gpus: int, offload: Offload, gpu: float, host: float | None) -> None:
    found = states.deepspeed_estimate(2_783_000_000, 65_000_000, 3, nodes=1, gpus=gpus, offload=offload)
    assert found.gpu / 2**30 == pytest.approx(gpu, abs=0.02)
    if host is not None:
        assert found.host / 2**30 == pytest.approx(host, abs=0.05)


def test_our_states_and_the_fp32_gradients_of_the_step_are_deepspeeds_zero_2() -> None:
    parameters, gpus = 7 * BILLION, 8
    at_the_step = sum(states.sharded(parameters, MIXED, 2, gpus)) + 4 * parameters / gpus
    assert at_the_step == states.deepspeed_estimate(parameters, 0, 2, nodes=1, gpus=gpus, offload="none").gpu


def test_the_documents_table_comes_out_of_their_precision_but_for_their_slip() -> None:
    rows = {row.name: row for row in documents.table_32b()}
    last = rows.pop("ZeRO-3 + optimizer offload")
    assert all(row.ours == row.document and not row.note for row in rows.values())
    assert (last.document, last.ours) == (24, 16)
    assert "twice" in last.note
