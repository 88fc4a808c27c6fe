"""The host memory that loading a model takes on a node of 8 ranks, beside the plan's.

    python -m bench.loading [--write docs/loading.md]

The real entrypoint runs in 8 processes up to the end of `load_model`, on a made-up model of 3.3B parameters with the
proportions of a 32B one, in bf16 on disk. Memory is the ranks' proportional set size (PSS), summed: a page that several
share counts once. What the ranks had before is subtracted.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from alignlaunch.launchers.planner import memory
from alignlaunch.launchers.planner.architecture import model as models
from alignlaunch.launchers.planner.memory import GIB, Setup
from alignlaunch.launchers.planner.tuning import Tuning
from alignlaunch.train.config import Lora
from bench import made_page

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".cache" / "bench" / "loading"
RANKS = 8
#: A tenth of Qwen2.5-32B's parameters, and its largest module a tenth of its largest.
CONFIG = {
    "vocab_size": 38016,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
}
#: Qwen2.5-32B's.
LARGE = {
    "vocab_size": 152064,
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
}
#: Names of smaps_rollup's lines, as `Memory` has them.
FIGURES = ("Pss:", "Pss_File:")
LORA = {"r": 8, "alpha": 16, "dropout": 0.0}


class Strategy(NamedTuple):
    """name, ZeRO stage (0: DDP), whether there is an adapter."""

    name: str
    zero: int
    lora: bool


STRATEGIES = (
    Strategy("DDP, LoRA", 0, lora=True),
    Strategy("DDP, full", 0, lora=False),
    Strategy("ZeRO-1 or ZeRO-2, full", 2, lora=False),
    Strategy("ZeRO-3, LoRA", 3, lora=True),
    Strategy("ZeRO-3, full", 3, lora=False),
)

PAGE = """<!-- Made by `python -m bench.loading --write docs/loading.md`. Do not edit. -->
# Host memory while a model is loaded

{ranks} ranks of the real entrypoint on one node load a made-up model of {count:,} parameters, in bf16 on disk.
Measured is the most by which their proportional set sizes grow together (a page that several ranks have counts once),
and of it what is mapped from the model's files, which the kernel may drop and read again. Beside it what
`alignlaunch plan` says, for this model and for Qwen2.5-32B's shape. GiB.

There is no GPU here. Without ZeRO-3 each weight goes to the GPU as it is read: in its place it is read, copied in the
precision in which it is loaded, and dropped, which is as much host memory as a transfer can take. With ZeRO-3 the
ranks' shards stay in host memory here, and not on a node with GPUs: they are subtracted. The module that is gathered
at a time, here 1.2 to 2.3 GiB in 8 ranks, is not. The plan adds every rank's largest module to all of the files.
These are the head and the embedding, which are read first, when little of the files is mapped: without ZeRO-3 it is
above what was measured.
"""


def main() -> None:
    if sys.argv[1:2] == ["--rank"]:
        _rank(sys.argv[2:])
    made_page.main(__doc__, page)


def page() -> str:
    """The page."""
    shutil.rmtree(PLACE, ignore_errors=True)
    make()
    count = setup("model", STRATEGIES[0]).tuning.count
    text = PAGE.format(ranks=RANKS, count=count)
    head = ("strategy", "measured", "of it from files", "plan", "plan / measured", "plan for 32B")
    return text + "\n".join(made_page.table(head, [_row(strategy) for strategy in STRATEGIES])) + "\n"


def make() -> None:
    """`model/`: weights in several files, and a tokenizer; `large/`: a config.json; and data, to get so far."""
    import torch
    from tests.support.tiny import make_tokenizer, write_data
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    write_config("model", CONFIG)
    write_config("large", LARGE)
    auto: Any = AutoModelForCausalLM
    network = auto.from_config(AutoConfig.from_pretrained(PLACE / "model"), dtype=torch.bfloat16)
    network.save_pretrained(PLACE / "model", max_shard_size="1GB")
    make_tokenizer().save_pretrained(PLACE / "model")
    write_data(PLACE)
    for zero in {strategy.zero for strategy in STRATEGIES} - {0}:
        shutil.copy(ROOT / "zero_configs" / f"zero{zero}.json", PLACE)


def write_config(folder: str, config: dict[str, int]) -> None:
    """A model's config.json."""
    from transformers import Qwen2Config

    make: Any = Qwen2Config
    make(**config, dtype="bfloat16").save_pretrained(PLACE / folder)


def _row(strategy: Strategy) -> list[str]:
    found = measure(strategy)
    plans = [sum(memory.host(setup(name, strategy)).values()) for name in ("model", "large")]
    ratio = f"{plans[0] / found.total:.2f}"
    print(f"{strategy.name}: {found}, plan {plans[0]:.4g}", file=sys.stderr, flush=True)
    small = [f"{size / GIB:.2f}" for size in (found.total, found.files, plans[0])]
    return [strategy.name, *small, ratio, f"{plans[1] / GIB:.1f}"]


def setup(folder: str, strategy: Strategy) -> Setup:
    """What the planner is asked: as `bench.plan.cases`, on a node of 8."""
    from bench.plan.cases import Case

    found = models.find(folder, PLACE)
    tuning = Tuning(found, Lora(**LORA) if strategy.lora else None, "none")  # type: ignore[arg-type]
    return replace(Case("", "trial", "sft", strategy.zero).setup, tuning=tuning, nproc_per_node=RANKS)


class Memory(NamedTuple):
    """Bytes over all ranks: all of it, and what is mapped from files."""

    total: int
    files: int


def measure(strategy: Strategy) -> Memory:
    """Load the model in 8 processes. Returns by how much their memory grew at the most, without shards that stay."""
    folder = PLACE / f"zero{strategy.zero}-{'lora' if strategy.lora else 'full'}"
    folder.mkdir()
    job = {
        "name": "loading",
        "stage": "sft",
        "model": "model",
        "data": {"train": ["sft.jsonl"], "cache_dir": "cache"},
        "output_dir": str(folder / "out"),
        "lora": LORA if strategy.lora else None,
        "train": {"max_steps": 1, "save_strategy": "no", "report_to": "none", "max_length": 64},
    }
    (folder / "job.yaml").write_text(json.dumps(job))  # JSON is YAML
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={RANKS}"]
    command += ["-m", "bench.loading", "--rank", str(folder), str(folder / "job.yaml")]
    command += ["--deepspeed", f"zero{strategy.zero}.json"] if strategy.zero else []
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}",
        "ALIGNLAUNCH_BF16_ON_CPU": "1",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        # So that what is freed goes back to the system, as tensors of a large model do: glibc keeps those below 32 MB.
        "MALLOC_MMAP_THRESHOLD_": "131072",
    }
    with (folder / "log").open("w") as log:
        launcher = subprocess.Popen(command, cwd=PLACE, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            ranks = [int(text) for text in _said(folder, "ready", launcher)]
            before = _memory(ranks)
            (folder / "go").touch()
            most = before
            while len([*folder.glob("loaded.*")]) < RANKS:
                _require(launcher, folder)
                most = max(most, _memory(ranks))
                time.sleep(0.15)  # they are stopped for about as long
            stays = sum(map(int, _said(folder, "loaded", launcher)))
        finally:
            (folder / "done").touch()
            launcher.wait()
    return Memory(most.total - before.total - stays, most.files - before.files)


def _said(folder: Path, word: str, launcher: Any) -> list[str]:
    """What each rank has said, once all have."""
    while len(found := sorted(folder.glob(f"{word}.*"))) < RANKS:
        _require(launcher, folder)
        time.sleep(0.05)
    return [path.read_text() for path in found]


def _require(launcher: Any, folder: Path) -> None:
    if launcher.poll() is not None:
        raise SystemExit(f"the ranks have ended before the model was loaded:\n{(folder / 'log').read_text()[-3000:]}")


def _memory(ranks: list[int]) -> Memory:
    """What they have at one moment, for which they are stopped: a page's share depends on who else has it."""
    for rank in ranks:
        os.kill(rank, signal.SIGSTOP)
    try:
        lines = [line for rank in ranks for line in Path(f"/proc/{rank}/smaps_rollup").read_text().splitlines()]
    finally:
        for rank in ranks:
            os.kill(rank, signal.SIGCONT)
    sizes = (sum(1024 * int(line.split()[1]) for line in lines if line.startswith(name)) for name in FIGURES)
    return Memory(*sizes)


def _rank(arguments: list[str]) -> None:
    """One rank: the entrypoint, which stops once the model is loaded. Does not return."""
    import torch
    from transformers import core_model_loading

    from alignlaunch.train import __main__ as entrypoint
    from alignlaunch.train.model import loading

    folder, *argv = arguments
    sharded, load = "zero3.json" in argv, loading.load_model

    def transferred(weight: Any, device: Any = None, dtype: Any = None) -> Any:
        """In place of a transfer to a GPU: the weight is read, cast and dropped."""
        del device
        there = weight[...].to(dtype=dtype, copy=True)
        return torch.zeros((), dtype=there.dtype).expand(there.shape)

    def load_model(*args: Any, **kwargs: Any) -> None:
        _say(folder, "ready", os.getpid())
        _wait(folder, "go")
        if not sharded:
            core_model_loading._materialize_copy = transferred  # type: ignore[assignment]
        model = load(*args, **kwargs)
        shards = [weight.ds_tensor for weight in model.parameters()] if sharded else []
        _say(folder, "loaded", sum(shard.nbytes for shard in shards))
        _wait(folder, "done")
        os._exit(0)

    loading.load_model = load_model
    entrypoint.run(argv)


def _say(folder: str, word: str, what: int) -> None:
    part = Path(folder) / f"part.{os.environ['RANK']}"
    part.write_text(str(what))
    part.rename(Path(folder) / f"{word}.{os.environ['RANK']}")


def _wait(folder: str, word: str) -> None:
    while not (Path(folder) / word).exists():
        time.sleep(0.02)


if __name__ == "__main__":
    main()
