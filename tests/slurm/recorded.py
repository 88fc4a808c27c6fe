"""The recordings of real answers: which there are, and one taken apart."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent / "recordings"
#: With fields of many kinds; and made by tests.slurm.record, with just what alignlaunch asks for.
VERSIONS = sorted(path.name for path in FOLDER.glob("slurm-*"))
OWN = sorted(path.name for path in FOLDER.glob("alignlaunch-*"))
_ENDED_BADLY = re.compile(r"^--- stderr, exit (\d+)\n", re.MULTILINE)


class Answer(NamedTuple):
    command: str
    stdout: str
    stderr: str
    exit_code: int

    @property
    def fields(self) -> list[str]:
        """What `--Format=A:|,B:128|` or `--format=A,B` asked for."""
        asked = re.search(r"--[Ff]ormat=(\S+)", self.command)
        assert asked, self.command
        return [name.partition(":")[0] for name in asked[1].split(",")]


def answer(version: str, name: str) -> Answer:
    first, _, rest = (FOLDER / version / f"{name}.txt").read_text(encoding="utf-8").partition("\n")
    stdout, *ending = _ENDED_BADLY.split(rest, maxsplit=1)
    code, stderr = ending or ("0", "")
    return Answer(first.removeprefix("$ "), stdout, stderr, int(code))
