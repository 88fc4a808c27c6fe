"""Runs in the foreground, one after the other: show their progress and how they end, and handle Ctrl-C."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from alignlaunch.train import trained_folder

from ..backends import logfile
from ..backends.base import ForegroundBackend, Rendered, Say
from ..runs.records import Run
from ..watch import metrics, states, words

POLL_SECONDS = 0.2
#: The exit code after Ctrl-C, which ends all.
INTERRUPTED = 130


def run_all(
    rendered: Mapping[str, Rendered],
    runs: Mapping[str, Run],
    backend: ForegroundBackend,
    required: Mapping[str, Collection[str]],
    *,
    follow: bool,
    say: Say,
) -> int:
    """Start the submitted steps one after the other, until one fails that is no point of a sweep.

    required: the steps that must succeed before a step. Returns the exit code of the first that failed, or 0. The steps
    that were not started are cancelled.
    """
    waiting = list(runs)
    failed: set[str] = set()
    code = 0
    try:
        while waiting:
            step = waiting[0]
            if failed & {*required[step]}:
                break
            waiting.pop(0)
            run = states.refresh([runs[step]])[0]
            if run.status.is_final:  # somebody cancelled it while it waited
                say(words.describe(run))
                code = code or run.status.process_code
                failed.add(step)
                if not rendered[step].job.point:
                    break
                continue
            if len(runs) > 1:
                say(f"{run.name}: {run.handle}")
            ended = _run_one(rendered[step], run, backend, follow=follow, say=say)
            code = code or ended
            if ended:
                failed.add(step)
            if ended == INTERRUPTED or (ended and not rendered[step].job.point):
                break
    finally:
        for step in waiting:
            backend.cancel(runs[step])
            say(f"{runs[step].name}: never started")
        states.refresh([runs[step] for step in waiting])
    return code


def _run_one(rendered: Rendered, run: Run, backend: ForegroundBackend, *, follow: bool, say: Say) -> int:
    """Start the run and show it until it ends. Returns its exit code; 130 after Ctrl-C, which ends its processes."""
    process = backend.start(rendered, run)
    began = time.time()
    log = Path(run.log)
    progress = _Progress(Path(run.output_dir) / trained_folder.METRICS, began)
    for number in (signal.SIGTERM, signal.SIGHUP):  # from `timeout`, CI or a closed terminal: handled as Ctrl-C
        if signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores a closed terminal
            signal.signal(number, signal.default_int_handler)
    try:
        if follow:
            for line in logfile.follow(log, 0, lambda _: True, lambda: process.poll() is not None):
                sys.stdout.write(line)
                sys.stdout.flush()
        while process.poll() is None:
            progress.show()
            time.sleep(POLL_SECONDS)
        progress.show(last=True)
    except KeyboardInterrupt:
        progress.end_line()
        say("stopping every process of the run ... (Ctrl-C again: at once)")
        try:
            backend.cancel(run)
        except KeyboardInterrupt:  # the second Ctrl-C, while `cancel` gives torchrun its grace period
            backend.kill(run)
        process.wait()
        states.refresh([run])
        say("stopped")
        return INTERRUPTED
    run = states.refresh([run])[0]
    if run.status.state == "COMPLETED":
        say(f"done in {time.time() - began:.0f} s; {words.result(run, preflight_only=rendered.preflight_only)}")
        return 0
    if not follow:
        sys.stderr.writelines(logfile.tail(log, 20, lambda _: True))
    say(f"{run.status.state} with exit code {run.status.exit_code}; log: {log}")
    return run.status.process_code


class _Progress:
    """Shows the records of metrics.jsonl: on a terminal in one line that is overwritten, else one line per record."""

    def __init__(self, path: Path, began: float) -> None:
        self._path, self._began, self._offset = path, began, 0
        self._terminal = sys.stderr.isatty()
        self._open_line = False

    def show(self, *, last: bool = False) -> None:
        for record in self._new_records():
            text = _line(record, time.time() - self._began)
            if self._terminal:
                sys.stderr.write(f"\r\x1b[K{text}")
                self._open_line = True
            else:
                sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
        if last:
            self.end_line()

    def end_line(self) -> None:
        if self._open_line:
            sys.stderr.write("\n")
            self._open_line = False

    def _new_records(self) -> list[dict[str, Any]]:
        """Complete records written since the last call, without those of an earlier run in the same folder."""
        try:
            if self._path.stat().st_mtime < self._began:
                return []
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        records = [metrics.record(line) for line in whole.splitlines()]
        return [record for record in records if record.get("time", 0) >= self._began]


def _line(record: dict[str, Any], seconds: float) -> str:
    shown = {key: record[key] for key in ("loss", "eval_loss", "learning_rate", "tokens_per_second") if key in record}
    figures = "  ".join(f"{key} {value:.4g}" for key, value in shown.items())
    return (
        f"step {record.get('step')}/{record.get('max_steps')}  {figures or record.get('event', '')}  [{seconds:.0f} s]"
    )
