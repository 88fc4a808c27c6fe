"""Whatever a source says, known or not, has a line, a reason for which it was dropped, or a refusal with its name."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.importing import axolotl_names, llamafactory, read, tools
from alignlaunch.launchers.importing.found import Found
from alignlaunch.launchers.job import legacy
from alignlaunch.launchers.job.rules import trainer_args

_TRAINERS = sorted({name for arguments in trainer_args()["stages"].values() for name in arguments})
_ANY = [*_TRAINERS, *legacy.MOVES, *legacy.DTYPE_NAMES, *trainer_args()["owned"], "max_source_length", "my_own", "x.y"]
_TEXTS = st.sampled_from(
    ["1", "0", "2e-5", "True", "false", "none", "auto", "a/b", "x y", "-1", "[1]", "{}", "a,b", "4bit"]
)
_VALUES = st.sampled_from([1, 0, -1, 0.5, True, False, None, "auto", "a", "none", [], ["a"], {}, {"a": 1}, 10**20])
_LAUNCHER = st.sampled_from(
    "nnodes nproc_per_node node_rank master_addr rdzv_id max_restarts log_dir num_machines num_processes zero_stage "
    "mixed_precision use_fsdp fsdp_version gpu_ids what_is_this include hostfile gradient_clipping".split()
)


def told(found: Found) -> set[str]:
    """The names of all that is accounted for."""
    lines = [*found.job.values(), *found.cluster.values()]
    names = {one.name for line in lines for one in line.given}
    return names | {left.given.name for left in [*found.dropped, *found.cannot]}


def _read(name: str, text: str) -> Found:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text)
        return read.read(path, [])


@given(
    st.sampled_from(["torchrun", "deepspeed", "accelerate launch"]),
    st.dictionaries(_LAUNCHER, _TEXTS, max_size=5),
    st.sampled_from(["sft.py", "dpo.py", "orpo_training.py", "reward.py", "trl/scripts/dpo.py", "pretrain.py"]),
    st.dictionaries(st.sampled_from([*_ANY, *tools.OWN.moves, *tools.TRL.moves, *tools.TRL.off]), _TEXTS, max_size=12),
)
def test_options_of_a_command(
    launcher: str, of_launcher: dict[str, str], program: str, options: dict[str, str]
) -> None:
    before, after = (
        {f"--{name}={json.dumps(value)}": f"--{name}" for name, value in pairs.items()}
        for pairs in (of_launcher, options)
    )
    found = _read("train.sh", " ".join([launcher, *before, program, *after]))
    assert ({*before.values(), *after.values()} - {"--stage", "--config"}) - told(found) == set()


@given(
    st.sampled_from(["sft", "dpo", "rm", "pt"]),
    st.dictionaries(
        st.sampled_from([*_ANY, *llamafactory.TOOL.moves, *llamafactory.TOOL.off, "max_samples"]), _VALUES, max_size=12
    ),
)
def test_keys_of_llamafactory(stage: str, keys: dict[str, Any]) -> None:
    found = _read("lf.yaml", json.dumps({**keys, "stage": stage, "finetuning_type": "lora", "dataset": "a"}))
    assert keys.keys() - told(found) == set()


@given(
    st.sampled_from([{}, {"rl": "dpo"}, {"rl": "orpo"}, {"reward_model": True}]),
    st.dictionaries(
        st.sampled_from(
            [*_ANY, *axolotl_names.TOOL.moves, *axolotl_names.TOOL.off, "evals_per_epoch", "batch_size", "adapter"]
        ),
        _VALUES,
        max_size=12,
    ),
)
def test_keys_of_axolotl(stage: dict[str, Any], keys: dict[str, Any]) -> None:
    kept = {key: value for key, value in keys.items() if key not in ("rl", "reward_model")}
    found = _read("a.yaml", json.dumps({**kept, **stage, "base_model": "m"}))
    assert kept.keys() - told(found) == set()
