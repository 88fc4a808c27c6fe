"""bench.gpu where there is no GPU: its trial runs the same code, and what a GPU may answer is in its page."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from bench.gpu import one, table
from bench.gpu.shape import FULL, TRIAL

ROOT = Path(__file__).parents[2]
MACHINE = dict.fromkeys(("device", "driver", "torch", "transformers", "trl", "peft"), "x")


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench.gpu", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_trial_trains_on_both_sides_and_makes_a_page(tmp_path: Path) -> None:
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"
    done = bench("--trial", "--stage", "orpo", "--rounds", "1", "--results", str(results), "--write", str(page))
    assert done.returncode == 0, done.stderr
    ours, theirs = map(json.loads, results.read_text().splitlines())
    assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert ours["computed"] < theirs["computed"] == theirs["tokens"] == TRIAL.sequences * TRIAL.length
    assert "| orpo |" in page.read_text()
    # What is there is kept: with no further round the page is the same.
    again = bench("--trial", "--rounds", "0", "--results", str(results))
    assert (again.returncode, again.stdout) == (0, page.read_text())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(tmp_path: Path) -> None:
    done = bench("--results", str(tmp_path / "results.jsonl"))
    assert done.returncode == 2
    assert "no GPU here" in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


def test_out_of_memory_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(one, "_run", full)
    assert one.run("TRL", "orpo", TRIAL).keys() == {"out_of_memory_gib"}


def run(side: str, number: int, **found: Any) -> table.Run:
    return {"stage": "dpo", "side": side, "round": number, "shape": asdict(FULL), "machine": MACHINE, **found}


def trained(side: str, number: int, seconds: float) -> table.Run:
    return run(side, number, seconds=seconds, tokens=16384, computed=10000, mfu=0.4, loss=0.6931, gib=60.0)


def cells(runs: list[table.Run]) -> dict[str, str]:
    line = next(line for line in table.page(runs).splitlines() if line.startswith("| dpo |"))
    return dict(zip(table.HEAD, (cell.strip() for cell in line.strip("|").split("|")), strict=True))


def test_ratios_are_those_of_the_rounds_and_the_plan_is_beside_the_peak() -> None:
    found = cells([trained("ours", 1, 1.0), trained("TRL", 1, 2.0), trained("ours", 2, 1.0), trained("TRL", 2, 3.0)])
    assert found["ours / TRL (spread)"] == "**2.50** (2.00-3.00)"
    assert found["ours, tokens/s"] == "16,384"
    assert found["TRL, MFU"] == "40.0%"
    assert float(found["plan, GiB"]) / 60 == pytest.approx(float(found["plan / peak"]), abs=1e-3)


def test_a_side_without_memory_is_a_row_that_says_so() -> None:
    found = cells([trained("ours", 1, 1.0), run("TRL", 1, out_of_memory_gib=138.25)])
    assert found["TRL, tokens/s"] == "out of memory at 138.2 GiB"
    assert found["ours / TRL (spread)"] == ""
    assert found["ours, first loss"] == "0.6931"


def test_results_of_two_machines_are_no_one_table() -> None:
    other = trained("TRL", 1, 2.0) | {"machine": MACHINE | {"device": "y"}}
    with pytest.raises(ValueError, match="different machines"):
        table.page([trained("ours", 1, 1.0), other])
