"""Tokenising with one and two processes, and TRL's own on the same records. `python -m bench.tokenise`.

Both end with token ids and labels in an Arrow file. Ours begins with the JSON file; TRL begins with the records already
in a `datasets.Dataset`, which is to its advantage. TRL tells an assistant's tokens by templates with generation marks,
ours by any template; so TRL gets its training template of the same model, which writes the same text.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # as many cores as processes, for both

import datasets  # type: ignore[import-untyped]
import transformers
import trl
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # type: ignore[attr-defined]

from alignlaunch.train.config import Data, Stage
from alignlaunch.train.data import cache, preparation
from alignlaunch.train.data.encoding import encoders

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples/models/SmolLM2-135M-Instruct"
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
ROUNDS = 7
#: The aims: two processes against one, and one against TRL's one.
TWO, TRL = 1.7, 1.0
WORDS = (
    "the a of to and in that it is was for on are as with they be at one have this from or had by hot but some what "
    "there we can out other were all your when up use word how said an each she which do their time if will way about"
).split()


class Case(NamedTuple):
    """Records of a kind; template: the model's, of which TRL has a training one."""

    name: str
    stage: Stage
    template: str
    records: list[dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--records", type=int, default=1000)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    datasets.disable_progress_bars()
    text = "\n".join(table(options.records)) + "\n"
    print(text, end="")
    if options.write:
        options.write.write_text(text, encoding="utf-8")


def cases(count: int) -> list[Case]:
    """Conversations of ten turns, one question each, preferences: some seconds of work each, whatever the machine does
    beside it for a moment."""
    chance = random.Random(0)  # noqa: S311 - words, no secrets

    def say(words: int) -> str:
        return " ".join(chance.choice(WORDS) for _ in range(words))

    def turns(rounds: int) -> list[dict[str, str]]:
        return [
            turn
            for _ in range(rounds)
            for turn in ({"role": "user", "content": say(25)}, {"role": "assistant", "content": say(60)})
        ]

    pairs = [
        {
            "prompt": [{"role": "user", "content": say(40)}],
            "chosen": [{"role": "assistant", "content": say(120)}],
            "rejected": [{"role": "assistant", "content": say(120)}],
        }
        for _ in range(count * 2)
    ]
    return [
        Case("sft, ten turns, Qwen2.5", "sft", "qwen2_5", [{"messages": turns(10)} for _ in range(count // 2)]),
        Case("sft, ten turns, Llama 3", "sft", "llama3", [{"messages": turns(10)} for _ in range(count // 2)]),
        Case("sft, one turn, Qwen3", "sft", "qwen3", [{"messages": turns(1)} for _ in range(count * 2)]),
        Case("dpo, Qwen2.5", "dpo", "qwen2_5", pairs),
    ]


def table(count: int) -> list[str]:
    """The Markdown table, each ratio the median of ROUNDS, in which everything takes its turn."""
    lines = [
        "<!-- Made by `make bench-tokenise`. Do not edit. -->",
        "# Tokenising",
        "",
        f"Records a second, the median of {ROUNDS} rounds in which all take turns; ratios are medians over the rounds.",
        f"Aims: two processes at least {TWO} times one, and the same bytes; one process at least TRL's ({TRL:.0f} ×).",
        "",
        "Against TRL a second is one of CPU time, which a busy machine disturbs less.",
        "On a machine that others use, too, a second core is not always there: `possible` is what two processes get",
        "that know nothing of each other, each with half of the records.",
        "",
        "| records | one process | two | ours, CPU | TRL, CPU | two : one | possible | ours : TRL |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    missed = []
    for case in cases(count):
        with tempfile.TemporaryDirectory() as folder:
            times = measure(case, Path(folder))
        one, two, apart, ours, theirs = (statistics.median(len(case.records) / t for t in row) for row in times)
        by_two = statistics.median(a / b for a, b in zip(times[0], times[1], strict=True))
        by_trl = statistics.median(b / a for a, b in zip(times[3], times[4], strict=True))
        missed += [case.name] if by_two < TWO or by_trl < TRL else []
        ratios = f"{by_two:.2f} | {apart / one:.2f} | {by_trl:.2f}"
        lines.append(f"| {case.name} | {one:.0f} | {two:.0f} | {ours:.0f} | {theirs:.0f} | {ratios} |")
    load = os.getloadavg()[0]
    lines += ["", f"On {os.cpu_count()} cores; load at the end {load:.1f}. Missed: {', '.join(missed) or 'none'}."]
    return lines


def measure(case: Case, folder: Path) -> list[list[float]]:
    """Round by round: seconds of ours with one process, with two, with two apart; CPU seconds of ours and TRL's."""
    lines = [json.dumps(record) + "\n" for record in case.records]
    for name, part in (("x", lines), ("half0", lines[::2]), ("half1", lines[1::2])):
        (folder / f"{name}.jsonl").write_text("".join(part))
    ours, theirs = _ours(case, folder), _theirs(case, folder)
    rows: list[list[float]] = [[], [], []]
    cpu: list[float] = []
    trl: list[float] = []
    found = set()
    for number in range(ROUNDS):
        cpu.append(_timed(partial(ours, folder / f"cpu-{number}", 1, "x"), time.process_time))
        trl.append(theirs())
        for row, processes in ((rows[0], 1), (rows[1], 2)):
            root = folder / f"ours-{number}-{processes}"
            row.append(_timed(partial(ours, root, processes, "x")))
            found |= {path.read_bytes() for path in root.glob(f"*/{cache.ROWS}")}
        rows[2].append(_timed(partial(_apart, ours, folder / f"apart-{number}")))
    assert len(found) == 1, "not the same bytes"  # noqa: S101 - this is what is measured
    return [*rows, cpu, trl]


def _apart(ours: Callable[[Path, int, str], object], root: Path) -> None:
    """Two processes that share nothing but the machine."""
    both = [get_context("fork").Process(target=ours, args=(root, 1, f"half{i}")) for i in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()


def _timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    start = clock()
    work()
    return clock() - start


def _tokenizer(template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return tokenizer


def _ours(case: Case, folder: Path) -> Callable[[Path, int, str], object]:
    config: Any = SFTConfig if case.stage == "sft" else DPOConfig
    args = config(str(folder), max_length=None, use_cpu=True, bf16=False)
    encode = encoders.STAGES[case.stage].encoder(_tokenizer(case.template), args)

    def prepare(root: Path, processes: int, name: str) -> object:
        where = Data(train=[str(folder / f"{name}.jsonl")])
        todo = preparation.Preparation(
            role="train", data=where, stage=case.stage, encode=encode, key="", processes=processes
        )
        return preparation.prepare(todo, root)

    return prepare


def _theirs(case: Case, folder: Path) -> Callable[[], float]:
    """The seconds of TRL's `_prepare_dataset`, in its trainer, of a tiny model."""
    tokenizer = _tokenizer(f"{case.template}_training")
    small: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    shape = LlamaConfig(vocab_size=len(tokenizer), **small)
    model = LlamaForCausalLM(shape)
    reference = {} if case.stage == "sft" else {"ref_model": LlamaForCausalLM(shape)}
    config: Any
    base: Any
    base, config = (SFTTrainer, SFTConfig) if case.stage == "sft" else (DPOTrainer, DPOConfig)
    options = {"assistant_only_loss": True} if case.stage == "sft" else {}
    seconds: list[float] = []

    class Timed(base):  # type: ignore[misc]
        def _prepare_dataset(self, dataset: Any, *args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            prepared = super()._prepare_dataset(dataset, *args, **kwargs)
            seconds.append(time.process_time() - start)
            return prepared

    def prepare() -> float:
        args = config(str(folder), max_length=None, use_cpu=True, bf16=False, report_to="none", **options)
        rows = datasets.Dataset.from_list(case.records)
        Timed(model=model, args=args, processing_class=tokenizer, train_dataset=rows, **reference)
        return seconds[-1]

    return prepare


if __name__ == "__main__":
    main()
