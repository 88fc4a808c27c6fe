"""What the templates set for the flight recorder, on every target alike, under the names that torch reads."""

from __future__ import annotations

import mmap
import re
from importlib import import_module
from pathlib import Path

import yaml

from alignlaunch.launchers.diagnose import flight
from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.render import render

GOLDENS = Path(__file__).parents[2] / "goldens"
EXPORT = re.compile(r"(TORCH_\w+)=(\S+)")


def variables(text: str) -> dict[str, str]:
    """The TORCH_* of a script, or of a manifest's container."""
    if not text.startswith("#!"):
        manifest = next(yaml.safe_load_all(text))
        (template,) = [replica["template"] for replica in manifest["spec"]["pytorchReplicaSpecs"].values()][:1]
        env = template["spec"]["containers"][0]["env"]
        return {one["name"]: one["value"] for one in env if one["name"].startswith("TORCH_")}
    lines = [line for line in text.splitlines() if line.startswith("export TORCH_")]
    return {name: value for line in lines for name, value in EXPORT.findall(line)}


def rendered(name: str, cluster: str) -> dict[str, dict[str, str]]:
    loaded = jobfile.load(GOLDENS / "jobs" / name, (), cluster)
    files = {"bash": "torchrun.sh", "slurm": "job.sbatch", "k8s": "job.pytorchjob.yaml"}
    return {
        target: variables(render.render(loaded, target, "job.yaml")[files[target]]) for target in render.targets(loaded)
    }


def test_every_target_sets_the_same() -> None:
    found = rendered("qwen3-orpo.yaml", "k8s")
    names = {"TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_FR_DUMP_TEMP_FILE"}
    assert set(found) == {"bash", "slurm", "k8s"}
    for target, values in found.items():
        ours = {name: value for name, value in values.items() if name in names}
        assert set(ours) == names
        prefix = ours.pop("TORCH_FR_DUMP_TEMP_FILE")
        assert flight.is_dump(Path(f"{prefix}7")), target
        assert ours == {"TORCH_FR_BUFFER_SIZE": "2000", "TORCH_NCCL_DUMP_ON_TIMEOUT": "1"}


def test_nothing_is_recorded_where_there_is_no_nccl() -> None:
    for values in rendered("direct.yaml", "k8s-cpu").values():
        assert not any(name.startswith(("TORCH_FR", "TORCH_NCCL")) for name in values)


def test_torch_reads_these_names() -> None:
    torch = Path(str(import_module("torch").__file__)).parent
    library = torch / "lib/libtorch_cpu.so"
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
        for name in (b"TORCH_FR_BUFFER_SIZE", b"TORCH_FR_DUMP_TEMP_FILE"):
            assert text.find(name) > 0
    header = torch / "include/torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp"
    assert '"TORCH_NCCL_DUMP_ON_TIMEOUT"' in header.read_text()
