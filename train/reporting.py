"""A run's log: records in `metrics.jsonl`, each also as a plain line; a progress bar only on a terminal.

All of it on rank 0 only. Speed counts real tokens (no padding) of all ranks; memory is that of rank 0.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from . import flops, trained_folder


class MeasuredTrainer:
    """Mixin for a Trainer: adds speed, MFU and memory to each logged loss.

    Counts stay on the device, and are summed over the ranks only when there is something to log.
    """

    #: 2 for preference pairs: one sample, two sequences.
    sequences_per_sample = 1

    _counts: Any = None  # [tokens, sequences, tokens that pairs share] of this rank since the last record
    _saved: int = 0  # all tokens that pairs have shared before it
    _counting_since: float = 0.0
    args: Any
    accelerator: Any
    model: Any

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Count the micro-batch, then train on it."""
        if self._counts is None:
            self._counting_since = time.perf_counter()
            self._counts = torch.zeros(3, dtype=torch.long, device=self.args.device)
            self._saved = self.tokens_saved()
        mask = inputs.get("attention_mask")
        if mask is not None:
            self._counts[:2] += torch.stack([mask.sum(), mask.new_tensor(len(mask))])
        else:  # padding-free: all sequences in one row, each with positions from 0
            self._counts[0] += inputs["input_ids"].numel()
            self._counts[1] += (inputs["position_ids"] == 0).sum()
        return super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was measured since the last record of training. A collective."""
        if "loss" in logs and self._counts is not None:
            seconds = max(time.perf_counter() - self._counting_since, 1e-9)
            self._counts[2] = self.tokens_saved() - self._saved
            tokens, sequences, saved = self.accelerator.reduce(self._counts, "sum").tolist()
            logs["tokens_per_second"] = round(tokens / seconds, 1)
            logs["samples_per_second"] = round(sequences / self.sequences_per_sample / seconds, 3)
            logs["memory_peak_gib"] = round(_memory_peak() / 2**30, 2)
            mfu = self._mfu((tokens - saved) / seconds, tokens / max(sequences, 1))
            if mfu is not None:
                logs["mfu"] = round(mfu, 4)
            self._counts = None
        super().log(logs, start_time)  # type: ignore[misc]

    def tokens_saved(self) -> int:
        """The tokens that this rank has trained on until now without computing them: none, unless a stage says so."""
        return 0

    def _mfu(self, tokens_per_second: float, sequence_length: float) -> float | None:
        device_peak = flops.peak(torch.cuda.get_device_name()) if torch.cuda.is_available() else None
        if device_peak is None or self._flops is None:
            return None
        each = self._flops[0] + self._flops[1] * sequence_length
        return float(each * tokens_per_second / (device_peak * self.accelerator.num_processes))

    @cached_property
    def _flops(self) -> tuple[float, float] | None:
        """FLOPs of a token, and how many more for each token of its sequence. The model does not change its size."""
        model = self.accelerator.unwrap_model(self.model)
        alone, after_one = (flops.per_token(model, tokens) for tokens in (0, 1))
        return None if alone is None or after_one is None else (alone, after_one - alone)


def _memory_peak() -> int:
    """Peak memory in bytes: of this process's tensors on the GPU, or without a GPU of the whole process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Recorder(TrainerCallback):
    """Write each logged record to metrics.jsonl and, without a terminal, as one line to the log."""

    def __init__(self, output_dir: Path) -> None:
        self._path = output_dir / trained_folder.METRICS
        self._file: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the file; a resumed run keeps the records up to the step from which it resumes."""
        del args, control, kwargs
        if not state.is_world_process_zero:
            return
        kept = _records_up_to(self._path, state.global_step) if state.global_step else []
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("w", encoding="utf-8")
        self._file.writelines(line + "\n" for line in kept)
        self._write(state, {"event": "resumed" if state.global_step else "started"})

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Write one record."""
        del control, kwargs
        if self._file is None or not logs:
            return
        record = {k: v for k, v in logs.items() if k != "total_flos"}
        self._write(state, record)
        if args.disable_tqdm:
            print(_line(state.global_step, state.max_steps, record), flush=True)  # noqa: T201 - the log

    def _write(self, state: Any, record: dict[str, Any]) -> None:
        place = {"step": state.global_step, "max_steps": state.max_steps, "time": round(time.time(), 3)}
        self._file.write(json.dumps(place | record) + "\n")
        self._file.flush()


def _records_up_to(path: Path, step: int) -> list[str]:
    """The complete lines of an earlier attempt up to a step; a line that a crash truncated is left out."""
    kept = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except (ValueError, KeyError, TypeError):
                continue
    return kept


def _line(step: int, max_steps: int, record: dict[str, Any]) -> str:
    parts = [f"step {step}/{max_steps}"]
    for name, value in record.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        parts.append(f"{name} {shown}")
    return " | ".join(parts)


def say(message: str) -> None:
    """Print one line to the log, on rank 0 only."""
    if os.environ.get("RANK", "0") == "0":
        print(f"alignlaunch: {message}", flush=True)  # noqa: T201 - the log


def on_terminal() -> bool:
    """Whether stderr is a terminal, so that a progress bar makes sense."""
    return sys.stderr.isatty()
