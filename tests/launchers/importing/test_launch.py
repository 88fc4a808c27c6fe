"""Every way to start training, with its nodes and processes; and what a script sets up around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.importing import read, write
from alignlaunch.launchers.importing.found import Found

PROGRAM = "sft.py --model_name_or_path m --train_file_dir d --use_peft True"


def imported(tmp_path: Path, text: str, *arguments: str) -> Found:
    path = tmp_path / "train.sh"
    path.write_text(text.replace("PROGRAM", PROGRAM))
    return read.read(path, list(arguments))


def said(found: Found, *keys: str) -> tuple[Any, ...]:
    return tuple(found.job[key].value for key in keys)


@pytest.mark.parametrize(
    ("script", "nodes", "processes", "launcher"),
    [
        ("torchrun --nnodes 2 --nproc_per_node 8 PROGRAM", 2, 8, "torchrun"),
        ("torchrun --standalone --nproc-per-node=4 PROGRAM", 1, 4, "torchrun"),
        ("torchrun PROGRAM", 1, 1, "torchrun"),
        ("torchrun --nnodes=1:4 --nproc_per_node 8 PROGRAM", "1:4", 8, "torchrun"),
        ("CUDA_VISIBLE_DEVICES=0,1,2 torchrun --nproc_per_node gpu PROGRAM", 1, 3, "torchrun"),
        (
            "export CUDA_VISIBLE_DEVICES=4,5\npython -m torch.distributed.launch --nproc_per_node=2 PROGRAM",
            1,
            2,
            "torchrun",
        ),
        ("nohup env A=1 torchrun --nproc_per_node 2 PROGRAM > log 2>&1 &", 1, 2, "torchrun"),
        ("deepspeed --num_nodes 2 --num_gpus 8 PROGRAM --deepspeed z2.json", 2, 8, "deepspeed"),
        ("deepspeed --include localhost:0,1,3 PROGRAM --deepspeed z2.json", 1, 3, "deepspeed"),
        ("deepspeed --num_gpus 8 PROGRAM", 1, 8, "torchrun"),  # without ZeRO there is no use for its launcher
        ("accelerate launch --num_processes 16 --num_machines 2 PROGRAM", 2, 8, "torchrun"),
        ("accelerate launch --multi_gpu --num_processes=4 --mixed_precision bf16 PROGRAM", 1, 4, "torchrun"),
        ("CUDA_VISIBLE_DEVICES=0,1 accelerate launch PROGRAM", 1, 2, "torchrun"),
        ("python PROGRAM", 1, 1, "torchrun"),
        ("python prepare.py --out x\ntorchrun --nproc_per_node 2 PROGRAM", 1, 2, "torchrun"),
        ("#SBATCH -N2\n#SBATCH --ntasks-per-node=8\nsrun python -u PROGRAM", 2, 8, "direct"),
        ("#SBATCH -N 2\nsrun -N 2 --ntasks-per-node 4 --label python PROGRAM", 2, 4, "direct"),
        (
            "#SBATCH --nodes=2 --gpus=16\nsrun bash -c 'torchrun --nnodes 2 --nproc_per_node 8 PROGRAM'",
            2,
            8,
            "torchrun",
        ),
        ("srun apptainer exec --nv --bind /d:/d img.sif torchrun --nproc_per_node 4 PROGRAM", 1, 4, "torchrun"),
        ("trl sft --model_name_or_path m --dataset_name d --num_processes 2", 1, 2, "torchrun"),
        ("NNODES=2 NPROC_PER_NODE=4 llamafactory-cli train stage=sft model_name_or_path=m dataset=d", 2, 4, "torchrun"),
    ],
)
def test_nodes_and_processes(tmp_path: Path, script: str, nodes: Any, processes: int, launcher: str) -> None:
    found = imported(tmp_path, script)
    assert said(found, "stage", "nnodes", "nproc_per_node") == ("sft", nodes, processes)
    assert found.job["launcher"].value == launcher if "launcher" in found.job else launcher == "torchrun"


def test_a_second_training_command_is_named(tmp_path: Path) -> None:
    found = imported(tmp_path, "torchrun PROGRAM\ntorchrun dpo.py --x 1\n")
    assert "  dpo.py (line 2): a second training command: import it from a script of its own" in "\n".join(
        write.report(found)
    )


def test_fsdp_is_named_and_sharded_by_zero(tmp_path: Path) -> None:
    found = imported(
        tmp_path, "accelerate launch --use_fsdp --fsdp_sharding_strategy FULL_SHARD --num_processes 8 PROGRAM"
    )
    assert (found.job["zero"].value, found.job["zero"].how) == (3, "guessed")
    assert {left.given.name for left in found.cannot} == {"--use_fsdp", "--fsdp_sharding_strategy"}


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("module load cuda/12.8 nccl", "modules", ["cuda/12.8", "nccl"]),
        ("source /env/bin/activate", "python", "/env/bin/python"),
        ("conda activate /envs/train", "python", "/envs/train/bin/python"),
        ("export NCCL_SOCKET_IFNAME=ib0", "network_interface", "ib0"),
        ("export NCCL_IB_DISABLE=1", "env.NCCL_IB_DISABLE", "1"),
        ("#SBATCH --gres=gpu:h100:8", "gpu_type", "h100"),
        ("#SBATCH --container-image=/i.sqsh", "container.image", "/i.sqsh"),
    ],
)
def test_what_differs_between_clusters_is_for_the_profile(tmp_path: Path, line: str, key: str, value: Any) -> None:
    assert imported(tmp_path, f"{line}\ntorchrun PROGRAM").cluster[key].value == value


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("conda activate train", "conda activate train (line 1): a profile names its python"),
        ("source ./setup.sh", "source ./setup.sh (line 1): a command beside the training"),
        ("cd /work/code", "cd /work/code (line 1): paths of a job file are relative"),
        ("export PYTHONPATH=$PWD:$PYTHONPATH", "(line 1): a value that a shell must fill in"),
        ("#SBATCH --array=0-3", "#SBATCH --array '0-3' (line 1): one job file is one job"),
        ("#SBATCH --chdir=/x", "#SBATCH --chdir '/x' (line 1)"),
        ("#SBATCH --gres=shard:2", None),
        ("#SBATCH --wckey=a b", None),
    ],
)
def test_what_a_job_file_cannot_say_is_named(tmp_path: Path, line: str, place: str | None) -> None:
    told = "\n".join(write.report(imported(tmp_path, f"{line}\ntorchrun PROGRAM")))
    assert place is None or place in told


def test_a_secret_is_never_written(tmp_path: Path) -> None:
    secret = "hf_abcdefghijklmnop"
    script = f"export HF_TOKEN={secret} TOOL_X={secret}\nhuggingface-cli login --token {secret}\n"
    script += f"torchrun PROGRAM --hub_token {secret}"
    found = imported(tmp_path, script)
    assert secret not in write.job(found, "train.sh") + "\n".join(write.report(found))
    assert found.job["secrets"].value == ["HF_TOKEN", "TOOL_X"]


def test_a_file_s_name_ends_no_comment(tmp_path: Path) -> None:
    found = imported(tmp_path, "torchrun PROGRAM")
    assert (
        write.job(found, "a\nstage: pt #\u2028b\x85.sh")
        .splitlines()[0]
        .startswith("# Made from a stage: pt # b .sh by")
    )


def test_a_deepspeed_file_that_cannot_stand_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ds.json").write_text(
        '{"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}, "optimizer": {}}'
    )
    found = imported(tmp_path, "torchrun PROGRAM --deepspeed ds.json")
    assert said(found, "zero", "offload") == (3, "optimizer+param")
    assert any(left.given.name == "--deepspeed" and "optimizer: overrides" in left.why for left in found.cannot)


def test_a_variable_that_only_reads_itself_is_kept(tmp_path: Path) -> None:
    found = imported(tmp_path, "export MY_FLAG=${MY_FLAG:-1} N=${N:-2}\ntorchrun --nproc_per_node $N PROGRAM")
    assert found.job["env.MY_FLAG"].value == "1"
    assert "env.N" not in found.job


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--fp16", {"train.fp16": True, "train.bf16": False}),
        ("--torch_dtype float16", {"train.fp16": True, "train.bf16": False}),
        ("--report_to wandb tensorboard", {"train.report_to": ["wandb", "tensorboard"]}),
        ("--target_modules q_proj,v_proj --use_peft True", {"lora.target_modules": "q_proj,v_proj"}),
        ("--learning-rate=1e-4 --learning_rate 2e-4", {"train.learning_rate": 2e-4}),
        ("--optim adamw_torch --run_name 7", {"train.optim": "adamw_torch", "train.run_name": "7"}),
        ("--no_bf16", {"train.bf16": False}),
        ("--validation_split_percentage 5", {"data.validation_share": 0.05}),
        ("--use_peft False", {"lora": None}),
        ("--load_in_4bit True", {"quantization": "4bit"}),
        ("--overwrite_output_dir", {"resume": "never"}),
        ("--output_dir out/$(date +%F)-run", {"output_dir": "out/run"}),
    ],
)
def test_options_of_a_program(tmp_path: Path, options: str, expected: dict[str, Any]) -> None:
    found = imported(tmp_path, f"torchrun PROGRAM {options}")
    assert {key: found.job[key].value for key in expected} == expected


@pytest.mark.parametrize("option", ["--model_revision v2", "--dataset_config x", "--use_rslora", "--seed x"])
def test_options_of_trl_that_are_not_here(tmp_path: Path, option: str) -> None:
    found = imported(tmp_path, f"trl sft --model_name_or_path m --dataset_name d {option}")
    assert [left.given.name for left in found.cannot] == [option.split(maxsplit=1)[0]]


def test_records_of_several_sets_are_not_interleaved_in_silence(tmp_path: Path) -> None:
    path = tmp_path / "lf.yaml"
    path.write_text("model_name_or_path: m\nfinetuning_type: full\ndataset: a\nmix_strategy: interleave_under\n")
    assert [left.given.name for left in read.read(path, []).cannot] == ["mix_strategy"]


@pytest.mark.parametrize(
    ("line", "key", "value", "how"),
    [
        ("#SBATCH --nodes=2-4", "nnodes", 2, "guessed"),
        ("#SBATCH -t 30", "time", "30", "translated"),
        ("#SBATCH --gpus=16 -N 2", "nproc_per_node", 8, "translated"),
        ("#SBATCH --gpus-per-node=h100:4", "nproc_per_node", 4, "translated"),
        ("#SBATCH --no-requeue", "slurm.requeue", False, "translated"),
        ("#SBATCH --signal=B:TERM@60", "slurm.signal_seconds", 60, "translated"),
        ("#SBATCH --qos high --account=lab # ours", "slurm.account", "lab", "translated"),
        ("#SBATCH --exclude=n1,n2", "slurm.extra", ["--exclude=n1,n2"], "translated"),
    ],
)
def test_lines_of_sbatch(tmp_path: Path, line: str, key: str, value: Any, how: str) -> None:
    found = imported(tmp_path, f"#!/bin/bash\n{line}\nsrun python PROGRAM")
    assert (found.job[key].value, found.job[key].how) == (value, how)


def test_reward_models_that_a_script_leaves_to_its_defaults_are_asked_for(tmp_path: Path) -> None:
    found = imported(tmp_path, "torchrun safe_dpo.py --model_name_or_path m --train_file_dir d --harmless_rm rm/safe")
    assert said(found, "train.helpful_reward_model", "train.harmless_reward_model") == ("models/helpful_rm", "rm/safe")
    assert "train.helpful_reward_model: 'models/helpful_rm'" in "\n".join(write.report(found))
