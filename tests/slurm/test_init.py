"""`alignlaunch init` on a login node: a partition and its GPUs from the controller, or a note if it is down."""

from __future__ import annotations

import shutil
from pathlib import Path

import yaml

from tests.slurm.cli import Login
from tests.slurm.cluster.private_slurm import PrivateSlurm


def test_the_file_names_the_partition_and_its_gpus_and_is_accepted(slurm: PrivateSlurm, tmp_path: Path) -> None:
    login = Login(slurm, tmp_path)
    login.call("init", "sft", "--model", "org/name", "--data", "org/data", "-o", "job.yaml")
    text = (tmp_path / "job.yaml").read_text()
    job = yaml.safe_load(text)
    assert (job["slurm"], job["nproc_per_node"]) == ({"partition": "gpu"}, 4)
    assert "# the default partition: 2 nodes of 4 GPUs; others: short (2 nodes of 4 GPUs)" in text
    assert "[2 nodes of 4 GPUs in partition gpu (sinfo)" in text
    script = login.call("render", "job.yaml", "--target", "slurm").stdout.strip()
    slurm.run("sbatch", "--test-only", "job.sbatch", cwd=tmp_path / script)


def test_a_controller_that_is_down_costs_a_note(slurm: PrivateSlurm, tmp_path: Path) -> None:
    """sinfo tries for longer than anyone waits; this one's port is that of nobody."""
    login = Login(slurm, tmp_path)
    login.env["SLURM_CONF"] = str(shutil.copy(slurm.env["SLURM_CONF"], tmp_path / "slurm.conf"))
    lines = (tmp_path / "slurm.conf").read_text().splitlines()
    ours = [line if not line.startswith("SlurmctldPort=") else "SlurmctldPort=9" for line in lines]
    assert ours != lines
    (tmp_path / "slurm.conf").write_text("\n".join(ours) + "\n")
    done = login.call("init", "sft")
    assert "note: s" in done.stderr, done.stderr
    assert yaml.safe_load(done.stdout)["nproc_per_node"] == 1
