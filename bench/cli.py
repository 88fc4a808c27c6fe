"""Command line against torchx: CPU time of whole processes, in one run, interleaved. `make bench` runs it."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: torchx lives in a virtual environment of its own: its dependencies are not ours.
TORCHX_VENV = ROOT / ".cache" / "bench" / "torchx-venv"
TORCHX = "torchx==0.7.0"
JOB = ROOT / "examples" / "orpo-zero3.yaml"
RECORDED = 1000

HELP_AIM, DRY_RUN_AIM = 0.6, 0.75

# Every answer is ready in a file, so that the stub itself costs next to nothing.
STUB = """#!/bin/sh
echo "$0 $*" >> {calls}
exec /bin/cat {answer}
"""


@dataclass
class Command:
    """One command line, timed once a round."""

    argv: list[str]
    cwd: Path
    env: dict[str, str]
    check: Callable[[str], None] | None = None
    seconds: list[float] = field(default_factory=list)

    def run(self) -> float:
        """CPU seconds, user and system, of the process and of every process that it waited for."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = subprocess.Popen(self.argv, cwd=self.cwd, env=self.env, stdout=out, stderr=err)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
            out.seek(0)
            err.seek(0)
            if process.returncode:
                raise SystemExit(f"{' '.join(self.argv)}: exit code {process.returncode}\n{err.read()}")
            if self.check:
                self.check(out.read())
        return usage.ru_utime + usage.ru_stime

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        return f"{self.median:.3f} ({min(self.seconds):.3f} to {max(self.seconds):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the table to FILE")
    parser.add_argument("--rounds", type=int, default=9, help="timed rounds (default: 9)")
    options = parser.parse_args()

    torchx = install_torchx()
    with tempfile.TemporaryDirectory(prefix="alignlaunch-bench-") as scratch:
        text, met = report(Path(scratch), torchx, options.rounds)
    print(text, end="")
    if options.write:
        made_by = f"<!-- Made by `python bench/cli.py --write {options.write}`. Do not edit. -->\n"
        options.write.write_text(f"{made_by}# Cost of the command line\n\n{text}", encoding="utf-8")
    sys.exit(0 if met else 1)


def install_torchx() -> Path:
    """The torchx executable, installed on the first run."""
    torchx = TORCHX_VENV / "bin" / "torchx"
    if not torchx.exists():
        print(f"installing {TORCHX} into {TORCHX_VENV.relative_to(ROOT)}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", TORCHX_VENV], check=True)
        subprocess.run([TORCHX_VENV / "bin" / "pip", "install", "--quiet", TORCHX], check=True)
    return torchx


def report(scratch: Path, torchx: Path, rounds: int) -> tuple[str, bool]:
    """Measure everything. Returns the Markdown, and whether every aim was met."""
    work = scratch / "work"
    work.mkdir()
    shutil.copy(JOB, work / "job.yaml")
    (work / "x.py").write_text("print(1)\n", encoding="utf-8")

    def command(path: Path, *argv: str, **more: str) -> Command:
        return Command(list(argv), work, {**clean_environment(scratch), "PATH": str(path), **more})

    alignlaunch = str(Path(sys.executable).parent / "alignlaunch")
    no_slurm = folder_of_tools(scratch / "bin-no-slurm")
    calls = scratch / "calls"
    stubs = stub_slurm(folder_of_tools(scratch / "bin-stub-slurm"), calls, scratch / "runs")
    record_runs(scratch / "state", scratch / "runs")

    our_help = command(no_slurm, alignlaunch, "--help")
    their_help = command(no_slurm, str(torchx), "--help")
    our_dry_run = command(no_slurm, alignlaunch, "slurm", "job.yaml", "--dry-run")
    torchx_run = ["run", "--dryrun", "-s", "slurm", "dist.ddp", "-j", "2x1", "--script", "x.py"]
    their_dry_run = command(no_slurm, str(torchx), *torchx_run)
    render = command(no_slurm, alignlaunch, "render", "job.yaml")
    listing = command(stubs, alignlaunch, "list", "-n", str(RECORDED), XDG_STATE_HOME=str(scratch / "state"))
    bare = command(no_slurm, sys.executable, "-c", "pass")

    calls_per_listing: set[int] = set()

    def check_listing(stdout: str) -> None:
        if stdout.count(" RUNNING ") != RECORDED:
            raise SystemExit(f"`list` did not show {RECORDED} running jobs:\n{stdout[:500]}")
        calls_per_listing.add(len(calls.read_text(encoding="utf-8").splitlines()))
        calls.unlink()

    listing.check = check_listing
    measure([our_help, their_help, our_dry_run, their_dry_run, render, listing, bare], rounds)

    help_ratio = our_help.median / their_help.median
    dry_run_ratio = our_dry_run.median / their_dry_run.median
    one_call = calls_per_listing == {1}
    counted = " or ".join(map(str, sorted(calls_per_listing)))
    rows = [
        ("command", "alignlaunch", "torchx 0.7.0", "ratio", "aim"),
        ("---",) * 5,
        ("`--help`", str(our_help), str(their_help), f"{help_ratio:.2f}", aim(help_ratio, HELP_AIM)),
        (
            f"`slurm JOB --dry-run`; `torchx {' '.join(torchx_run)}`",
            *(str(our_dry_run), str(their_dry_run), f"{dry_run_ratio:.2f}", aim(dry_run_ratio, DRY_RUN_AIM)),
        ),
        ("`render JOB`, both targets", str(render), "", "", ""),
        (
            f"`list` of {RECORDED:,} recorded Slurm jobs, none of them ended",
            *(str(listing), "", "", f"scheduler calls: {counted}, aim 1: {'met' if one_call else 'missed'}"),
        ),
        ("bare `python -c pass`, the floor of both", str(bare), "", "", ""),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    text = f"""CPU seconds (user and system, children included) of whole processes: median (least to most)
of {rounds} rounds. Each round runs every command once; a first one, not counted, leaves compiled bytecode for both.
Neither tool finds a Slurm: PATH holds git alone, or a stub that counts its calls for `list`.
`JOB` is `{JOB.relative_to(ROOT)}`, validated in full.

{machine()}

{table}
"""
    return text, help_ratio <= HELP_AIM and dry_run_ratio <= DRY_RUN_AIM and one_call


def measure(commands: list[Command], rounds: int) -> None:
    """Interleaved, so that whatever else this machine does meets all of them alike."""
    for number in range(rounds + 1):
        for command in commands:
            seconds = command.run()
            if number:
                command.seconds.append(seconds)


def aim(ratio: float, most: float) -> str:
    return f"≤ {most}: {'met' if ratio <= most else 'missed'}"


def clean_environment(home: Path) -> dict[str, str]:
    """No settings of the user, and bytecode caches as an installed tool has them."""
    dropped = ("PYTHON", "SLURM", "SBATCH", "ALIGNLAUNCH", "TORCHX")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    return {**kept, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}


def folder_of_tools(folder: Path) -> Path:
    """A folder for PATH with git alone: an sbatch without a cluster would only wait for one."""
    folder.mkdir()
    git = shutil.which("git")
    if git is None:
        raise SystemExit("git: command not found")
    (folder / "git").symlink_to(git)
    return folder


def stub_slurm(folder: Path, calls: Path, folders: Path) -> Path:
    """Slurm's commands: each notes its call in `calls`; squeue answers, as that of 26.05, that every job runs."""
    answer = folder / "answer"
    scripts = {number: folders / f"bench-{number}" / "job.sbatch" for number in range(1, RECORDED + 1)}
    lines = [f"{number}|RUNNING|None|0:0|n[1-2]|{script}|\n" for number, script in scripts.items()]
    answer.write_text("".join(lines), encoding="utf-8")
    for name in ("squeue", "sacct", "scontrol"):
        stub = folder / name
        text = STUB.format(calls=calls, answer=answer if name == "squeue" else "/dev/null")
        stub.write_text(text, encoding="utf-8")
        stub.chmod(0o755)
    return folder


def record_runs(state: Path, folders: Path) -> None:
    """1,000 submissions as `alignlaunch slurm` records them."""
    os.environ["XDG_STATE_HOME"] = str(state)
    from alignlaunch.launchers.runs import records

    recorded = []
    for number in range(1, RECORDED + 1):
        folder = folders / f"bench-{number}"
        log = folder / f"bench-{number}.out"
        recorded.append(
            records.Run(f"slurm://bench/{number}", "bench", str(folder), str(log), status=records.Status("PENDING"))
        )
    records.save(recorded)


def machine() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    models = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    model = models[0].partition(":")[2].strip() if models else platform.machine()
    return f"Machine: {len(os.sched_getaffinity(0))} cores of {model}, Python {platform.python_version()}."


if __name__ == "__main__":
    main()
