"""The command line beside that of an earlier commit: CPU time of whole processes, in one run, interleaved.

`python -m bench.since [COMMIT]`; exit 1 if an aim is missed. `list` is of 1,000 Slurm jobs that train, each with a
run's folder, a metrics.jsonl and a timeline.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .cli import JOB, RECORDED, ROOT, Command, aim, clean_environment, folder_of_tools, machine, measure, stub_slurm

COMMIT = "314ff29"
#: Noise of a shared machine, within which a command counts as not slower.
NOISE = 1.05
LIST_AIM = 1.5
STEPS, PLANNED = 300, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commit", nargs="?", default=COMMIT, help=f"the earlier one (default: {COMMIT})")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default: 9)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="alignlaunch-since-") as scratch, tree_of(options.commit) as before:
        text, met = report(Path(scratch), before, options.commit, options.rounds)
    print(text)
    sys.exit(0 if met else 1)


@contextmanager
def tree_of(commit: str) -> Iterator[Path]:
    """The files of a commit, until the end."""
    with tempfile.TemporaryDirectory(prefix="alignlaunch-before-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "-C", ROOT, "worktree", "add", "--quiet", "--detach", tree, commit], check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", tree], check=True)


def report(scratch: Path, before: Path, commit: str, rounds: int) -> tuple[str, bool]:
    """The Markdown, and whether every aim was met."""
    work, folders = scratch / "work", scratch / "runs"
    work.mkdir()
    shutil.copy(JOB, work / "job.yaml")
    no_slurm = folder_of_tools(scratch / "bin")
    stubs = stub_slurm(folder_of_tools(scratch / "stubs"), scratch / "calls", folders)
    make_runs(folders)
    rows = [("command", "now", commit, "ratio", "aim"), ("---",) * 5]
    timed = []
    for arguments, path, most in (
        (["--help"], no_slurm, NOISE),
        (["slurm", "job.yaml", "--dry-run"], no_slurm, NOISE),
        (["list", "-n", str(RECORDED)], stubs, LIST_AIM),
    ):
        pair = [_command(tree, scratch, work, path, arguments) for tree in (ROOT, before)]
        timed.append((arguments, pair, most))
    measure([command for _, pair, _ in timed for command in pair], rounds)
    met = True
    for arguments, (ours, theirs), most in timed:
        ratio = statistics.median(a / b for a, b in zip(ours.seconds, theirs.seconds, strict=True))
        met = met and ratio <= most
        rows.append((f"`{' '.join(arguments)}`", str(ours), str(theirs), f"{ratio:.2f}", aim(ratio, most)))
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"CPU seconds, median (least to most) of {rounds} rounds; the median of their ratios.\n\n"
        f"{machine()}\n\n{table}",
        met,
    )


def _command(tree: Path, scratch: Path, work: Path, path: Path, arguments: list[str]) -> Command:
    """The command line of this tree, with a record of its own of the same runs."""
    state = scratch / f"state-{'now' if tree == ROOT else 'before'}"
    env = {**clean_environment(scratch), "PATH": str(path), "XDG_STATE_HOME": str(state), "PYTHONPATH": f"{tree}/src"}
    found = subprocess.run(
        [sys.executable, "-c", "import alignlaunch; print(alignlaunch.__file__)"],
        env=env,
        cwd=work,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    if Path(found.strip()).parent != tree / "src" / "alignlaunch":
        raise SystemExit(f"not the package of {tree}: {found}")
    if arguments[0] == "list":
        record(state, scratch / "runs")
    check = _check_list if arguments[0] == "list" else None
    return Command([sys.executable, "-m", "alignlaunch.launchers.cli", *arguments], work, env, check)


def _check_list(stdout: str) -> None:
    shown = sum(" RUNNING " in line and f" {STEPS}/{PLANNED} " in line for line in stdout.splitlines())
    if shown != RECORDED:
        raise SystemExit(f"`list` showed {shown} running jobs with their step:\n{stdout[:500]}")


def make_runs(folders: Path) -> None:
    """The files of 1,000 runs that have trained some steps, and have saved and evaluated every tenth."""
    now = time.time()
    for number in range(1, RECORDED + 1):
        folder = folders / f"bench-{number}"
        output = folder / "output"
        output.mkdir(parents=True)
        about = {"name": "bench", "stage": "sft", "launcher": "torchrun", "nnodes": 2, "nproc_per_node": 8}
        (folder / "run.json").write_text(json.dumps(about | {"set": [], "job_file": str(JOB)}), encoding="utf-8")
        (output / ".run").write_text(str(folder), encoding="utf-8")
        begun: dict[str, object] = {
            "run": str(folder),
            "queued": None,
            "began": now - 900,
            "nodes": "n[1-2]",
            "last": None,
        }
        marks: list[dict[str, object]] = [
            {"phase": phase, "step": at} for at in range(0, STEPS, 10) for phase in ("training", "saving")
        ]
        _write(output / "timeline.jsonl", [{"time": now - 900} | line for line in (begun, *marks)])
        logged: dict[str, object] = {
            "loss": 1.2345,
            "grad_norm": 0.8,
            "learning_rate": 1e-5,
            "tokens_per_second": 45678.9,
            "mfu": 0.41,
        }
        steps: Iterable[dict[str, object]] = (
            {"step": step, "max_steps": PLANNED, "time": now + step} for step in range(1, STEPS + 1)
        )
        _write(output / "metrics.jsonl", [step | logged for step in steps])


def _write(path: Path, lines: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def record(state: Path, folders: Path) -> None:
    """The submissions, as `alignlaunch slurm` records them."""
    os.environ["XDG_STATE_HOME"] = str(state)
    from alignlaunch.launchers.runs.records import Run, Status, save

    names = [folders / f"bench-{number}" for number in range(1, RECORDED + 1)]
    submitted = "2026-11-29T08:00:00+00:00"
    save(
        [
            Run(f"slurm://bench/{number}", "bench", str(folder), "", str(folder / "output"), "", submitted).with_status(
                Status("PENDING")
            )
            for number, folder in enumerate(names, start=1)
        ]
    )


if __name__ == "__main__":
    main()
