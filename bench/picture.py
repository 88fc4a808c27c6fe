"""docs/quickstart.svg: the job of README.md in a terminal. `python -m bench.picture --write docs/quickstart.svg`.

Each command runs for real, with a terminal of its own; what is drawn is what it printed.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from . import made_page

README = Path(__file__).parents[1] / "README.md"
COMMANDS = (
    "alignlaunch render job.yaml",
    "grep -A 8 'SBATCH --job-name' launch/qwen3-orpo/slurm/job.sbatch",
    "sed -i 's/nnodes: 2/nnodes: 4/' job.yaml                   # somebody edits the job ...",
    "alignlaunch check 2>&1 | grep -E '^([-+]#SBATCH|align)'    # ... and CI notices",
    "alignlaunch render job.yaml --set train.learning_rte=1e-5",
)
COLUMNS, LINE, CHARACTER, MARGIN = 118, 18, 7.8, 16  # pixels but the first


def page() -> str:
    """The whole picture."""
    return svg(session())


def session() -> list[str]:
    """The lines of the terminal."""
    with TemporaryDirectory(prefix="alignlaunch-picture-") as folder:
        (Path(folder) / "job.yaml").write_text(job(), encoding="utf-8")
        bin_ = Path(folder) / "bin"
        bin_.mkdir()
        command = bin_ / "alignlaunch"
        command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m alignlaunch.launchers.cli "$@"\n', encoding="utf-8")
        command.chmod(0o755)
        lines: list[str] = []
        for text in COMMANDS:
            lines += ["", f"$ {text}", *_in_terminal(text, Path(folder), {"PATH": f"{bin_}:/usr/bin:/bin"})]
    return lines[1:]


def job() -> str:
    """The job file that README.md shows."""
    found = re.search(r"```yaml file=job\.yaml\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    if found is None:
        raise ValueError(f"{README}: shows no job.yaml")
    return found[1]


def _in_terminal(command: str, folder: Path, env: dict[str, str]) -> list[str]:
    ours, theirs = pty.openpty()
    env = {**env, "HOME": str(folder / "home"), "TERM": "dumb", "LANG": "C.UTF-8", "COLUMNS": str(COLUMNS)}
    with subprocess.Popen(["bash", "-c", command], cwd=folder, env=env, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        output = b""
        while part := _read(ours):
            output += part
    os.close(ours)
    if process.returncode not in (0, 2):  # 2: the mistake that is shown
        raise ValueError(f"{command}: exit code {process.returncode}\n{output.decode()}")
    return output.decode().replace("\r\n", "\n").splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux says so when the last process at the other end is gone
        return b""


def svg(lines: list[str]) -> str:
    """The lines as a terminal window. Long lines are folded."""
    folded = [line[at : at + COLUMNS] for line in lines for at in range(0, max(len(line), 1), COLUMNS)]
    width, height = round(COLUMNS * CHARACTER + 2 * MARGIN), len(folded) * LINE + 2 * MARGIN
    fonts = "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
    drawn = [
        "<!-- Made by `make picture`. Do not edit. -->",
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        f'     font-family="{fonts}" font-size="13" xml:space="preserve">',
        "<style>text { white-space: pre }</style>",  # xml:space alone no longer keeps spaces in every browser
        f'<rect width="{width}" height="{height}" rx="8" fill="#16181d"/>',
    ]
    for row, line in enumerate(folded, start=1):
        text = escape(line, quote=False)
        drawn.append(f'<text x="{MARGIN}" y="{MARGIN + row * LINE - 5}" fill="{_colour(line)}">{text}</text>')
    return "\n".join([*drawn, "</svg>\n"])


def _colour(line: str) -> str:
    signs = {"$ ": "#ffffff", "-#": "#ff8a80", "+#": "#8fd694", "  ": "#e8c872"}
    return signs.get(line[:2], "#b8bec9")


if __name__ == "__main__":
    made_page.main(__doc__, page)
