"""The sources of these tests and of docs/importing.md: the documents' scripts, and files of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).with_name("sources")


class Source(NamedTuple):
    """A file below `sources/FOLDER`, where the command runs, and the arguments of a script."""

    folder: str
    file: str
    arguments: tuple[str, ...]
    about: str

    @property
    def name(self) -> str:
        return f"{self.folder}-{Path(self.file).name.replace('.', '-')}"


_CALL = ("2", "4", "192.168.1.100", "29500")
SOURCES = [
    Source("orpo", "torchrun_multi_node_multi_gpu.sh", ("3", *_CALL), "the ORPO document's script"),
    Source("rm", "torchrun_multi_node_multi_gpu.sh", ("3", *_CALL), "the RM document's script"),
    Source(
        "sft", "torchrun_multi_node_multi_gpu.sh", ("WORLD_SIZE=2", "NPROC_PER_NODE=4"), "the SFT document's script"
    ),
    Source("pt", "deepspeed_muti_node_muti_gpu.sh", ("3", *_CALL), "the DeepSpeed document's script"),
    Source(
        "safe_dpo", "scripts/train_rm_distributed.sh", ("helpful", "8"), "the DDP document's script for reward models"
    ),
    Source("safe_dpo", "scripts/train_dpo_distributed.sh", ("8",), "the DDP document's script for the policy"),
    Source("llamafactory", "lora_sft.yaml", (), "LLaMA-Factory: SFT with LoRA"),
    Source("llamafactory", "qlora_dpo.yaml", (), "LLaMA-Factory: DPO with a quantised model"),
    Source("llamafactory", "full_pt.sh", (), "LLaMA-Factory: pretraining, two nodes, ZeRO-3"),
    Source("axolotl", "lora.yml", (), "axolotl: SFT with LoRA"),
    Source("axolotl", "dpo.yml", (), "axolotl: DPO with LoRA on 8-bit weights"),
    Source("axolotl", "fft.yml", (), "axolotl: SFT of all weights, ZeRO-3 with offload"),
    Source("trl", "dpo.sh", (), "TRL: accelerate launch trl/scripts/dpo.py"),
    Source("trl", "sft_cli.sh", (), "TRL: trl sft"),
    Source("trl", "reward.yaml", (), "TRL: a configuration of trl reward"),
    Source("slurm", "train.sbatch", (), "sbatch: srun, torch.distributed.run, a container"),
    Source("slurm", "accelerate.sbatch", (), "sbatch: accelerate, as in its own example"),
]
