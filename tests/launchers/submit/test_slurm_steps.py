"""Pipelines submitted to a stubbed Slurm: what each job waits for, and a submission that fails half way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.stub_slurm import StubSlurm

from .stub_steps import call, write_steps

# sbatch numbers its jobs from 1 and refuses the one that it is told to; scancel notes what it is given.
SBATCH = r"""#!/bin/bash
PATH=/usr/bin:/bin here=$(dirname "$0")
if [[ "$*" == *--test-only* ]]; then exit 0; fi
echo "$@" >> "$here/submitted"
count=$(wc -l < "$here/submitted")
if [[ $count == "$REFUSE" ]]; then echo 'sbatch: error: Invalid account' >&2; exit 1; fi
echo "Submitted batch job $count"
"""
SQUEUE = r"""#!/bin/bash
PATH=/usr/bin:/bin here=$(dirname "$0")
for argument; do case $argument in --jobs=*) id=${argument#--jobs=} ;; esac; done
[[ -e $here/submitted ]] || exit 0
state=PENDING; grep -qsx "$id" "$here/cancelled" && state=CANCELLED
echo "$id|$state|Priority|0:0||$(sed -n "${id}s/.* //p" "$here/submitted")|"
"""
SCANCEL = '#!/bin/bash\necho "$@" >> "$(/usr/bin/dirname "$0")/cancelled"\n'


@pytest.fixture
def stubs(place: Path) -> StubSlurm:
    slurm = StubSlurm.create(place / "bin")
    for name, text in {"sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}.items():
        (slurm.bin / name).write_text(text)
        (slurm.bin / name).chmod(0o755)
    return slurm


def dependencies(stubs: StubSlurm) -> list[str]:
    lines = (stubs.bin / "submitted").read_text().splitlines()
    return [" ".join(word for word in line.split() if word.startswith(("--dep", "--kill"))) for line in lines]


def test_each_job_waits_for_those_it_needs(place: Path, stubs: StubSlurm) -> None:
    write_steps(place, "0", "0", "0")
    more = "  d: {stage: sft, model: '${a.output}', data: {train: [d/d]}, after: [c]}\n"
    (place / "chain.yaml").write_text((place / "chain.yaml").read_text() + more)
    done = call(place, "slurm", "chain.yaml", "--json", PATH=str(stubs.bin))
    shown = json.loads(done.stdout)
    assert [run["handle"] for run in shown] == [f"slurm://stub/{i}" for i in (1, 2, 3, 4)]
    assert len({run["pipeline"] for run in shown}) == 1
    assert dependencies(stubs) == [
        "",
        "--dependency=afterok:1 --kill-on-invalid-dep=yes",
        "--dependency=afterok:2 --kill-on-invalid-dep=yes",
        "--dependency=afterok:3:1 --kill-on-invalid-dep=yes",
    ]


def test_a_submission_that_fails_half_way_takes_the_others_back(place: Path, stubs: StubSlurm) -> None:
    write_steps(place, "0", "0", "0")
    done = call(place, "slurm", "chain.yaml", code=3, PATH=str(stubs.bin), REFUSE="3")
    assert done.stdout == ""
    assert "c could not be submitted, so none shall be\n" in done.stderr
    assert "cancelled slurm://stub/2 chain-b\nalignlaunch: cancelled slurm://stub/1 chain-a\n" in done.stderr
    assert "Invalid account" in done.stderr
    assert (stubs.bin / "cancelled").read_text() == "2\n1\n"
    assert not list(place.glob("runs/chain-c-*"))
    stubs.remove("scancel")  # and now they cannot be
    (stubs.bin / "submitted").unlink()
    said = call(place, "slurm", "chain.yaml", code=3, PATH=str(stubs.bin), REFUSE="2").stderr
    assert "slurm://stub/1 chain-a could not be cancelled" in said
    assert "later: alignlaunch cancel slurm://stub/1" in said
