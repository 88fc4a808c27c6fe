"""`logs --json`: rank, node and pod of a line, as Slurm, torchrun and Kubernetes mark them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlaunch.launchers.runs.records import Run
from alignlaunch.launchers.watch import lines

Mark = tuple[int | None, int | None, str | None]
CASES: list[tuple[str, str, tuple[int, int], str, Mark]] = [
    ("slurm", "torchrun", (2, 2), "1: [rank2]: step 3", (2, 1, None)),
    ("slurm", "torchrun", (2, 2), "1: preflight: passed", (None, 1, None)),
    ("slurm", "torchrun", (2, 2), "alignlaunch: head", (None, None, None)),
    ("slurm", "direct", (2, 2), "3: step 3", (3, 1, None)),
    ("slurm", "deepspeed", (2, 2), "1: step 3", (None, 1, None)),
    ("slurm", "torchrun", (1, 1), "0: step 3", (0, 0, None)),
    ("local", "torchrun", (1, 2), "[rank1]: step 3", (1, 0, None)),
    ("local", "torchrun", (1, 1), "step 3", (0, 0, None)),
    ("k8s", "torchrun", (2, 2), "a-b-master-0: [rank1]: step 3", (1, 0, "a-b-master-0")),
    ("k8s", "torchrun", (3, 2), "a-worker-1: [rank4]: step 3", (4, 2, "a-worker-1")),
    ("k8s", "torchrun", (3, 2), "a-node-0-2-x1y2z: loading", (None, 2, "a-node-0-2-x1y2z")),
    ("k8s", "torchrun", (3, 2), "no pod says this", (None, None, None)),
]


@pytest.mark.parametrize(("scheme", "launcher", "shape", "line", "expected"), CASES)
def test_marks(tmp_path: Path, scheme: str, launcher: str, shape: tuple[int, int], line: str, expected: Mark) -> None:
    about = {"nnodes": shape[0], "nproc_per_node": shape[1], "launcher": launcher}
    (tmp_path / "run.json").write_text(json.dumps(about))
    found = lines.as_data(Run(f"{scheme}://a/b/c", "a", str(tmp_path), ""))(f"{line}\n")
    assert found == {
        "handle": f"{scheme}://a/b/c",
        "line": line,
        **dict(zip(("rank", "node", "pod"), expected, strict=True)),
    }


def test_of_a_run_of_which_nothing_is_known() -> None:
    found = lines.as_data(Run("slurm://a/1", "", "", ""))("3: [rank7]: x\n")
    assert found == {"handle": "slurm://a/1", "line": "3: [rank7]: x", "rank": 7, "node": 3, "pod": None}
