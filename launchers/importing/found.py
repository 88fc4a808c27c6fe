"""What was found in a source: the job's keys, those of a cluster profile, and what neither can say."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple


def beside(source: Path, name: str) -> Path:
    """A file that a source names: from the working directory, or else from the source's folder."""
    from_source = source.parent / name
    try:
        return from_source if not Path(name).is_file() and from_source.is_file() else Path(name)
    except (OSError, ValueError):  # no file can have such a name
        return Path(name)


How = Literal["translated", "guessed"]


class Given(NamedTuple):
    """One thing that a source says."""

    name: str  # as the source writes it: "--learning_rate", "#SBATCH --time", "NCCL_DEBUG"
    value: Any
    line: int  # of the source; 0: the source does not say it
    unknown: tuple[str, ...] = ()  # parts of the value that are known only when the script runs
    file: str = ""  # another file that the source names

    @property
    def place(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"


@dataclass
class Line:
    """A line of the job file, or of the profile."""

    value: Any
    given: list[Given]
    how: How
    why: str

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        sources = dict.fromkeys(f"{one.name} ({one.place})" if one.place else one.name for one in self.given)
        return ": ".join(filter(None, [", ".join(sources), self.why]))


class Left(NamedTuple):
    """What became no line: dropped because nothing is lost by it, or not to be said in a job file."""

    given: Given
    why: str


@dataclass
class Found:
    """Filled by the readers of a source's parts. Keys are dotted."""

    job: dict[str, Line] = field(default_factory=dict)
    cluster: dict[str, Line] = field(default_factory=dict)
    dropped: list[Left] = field(default_factory=list)
    cannot: list[Left] = field(default_factory=list)
    #: Decisions of a script that only the running one makes.
    notes: list[str] = field(default_factory=list)
    #: {key: value} of the stage's defaults that apply where the source is silent.
    silent: dict[str, Any] = field(default_factory=dict)

    def put(self, key: str, value: Any, given: Given, why: str = "", *, guess: str = "") -> None:
        """A key of the job. Said again with another value, the later one wins, as on a command line."""
        self._put(self.job, key, value, given, why, guess)

    def profile(self, key: str, value: Any, given: Given, why: str = "", *, guess: str = "") -> None:
        """A key of the cluster profile."""
        self._put(self.cluster, key, value, given, why, guess)

    def _put(self, lines: dict[str, Line], key: str, value: Any, given: Given, why: str, guess: str) -> None:
        old = lines.get(key)
        if old and old.value == value and old.how == "translated":
            old.given.append(given)
            return
        if old:
            self.dropped += [
                Left(one, f"`{key}` is given again by {given.name} ({given.place}), which wins") for one in old.given
            ]
        lines[key] = Line(value, [given], "guessed" if guess else "translated", guess or why)

    def add(self, key: str, value: Any, given: Given, *, profile: bool = False) -> None:
        """One more item of a list."""
        lines = self.cluster if profile else self.job
        line = lines.setdefault(key, Line([], [], "translated", ""))
        if value in line.value:
            self.drop(given, "given twice")
            return
        line.value.append(value)
        line.given.append(given)

    def fill(self, key: str, value: Any, why: str) -> None:
        """A key that the source does not say, unless something else said it."""
        if key not in self.job:
            self.job[key] = Line(value, [], "guessed", why)

    def default(self, key: str, value: Any, tool: str) -> None:
        """The other tool's own default, where ours differs or may come to differ."""
        if key not in self.job:
            self.job[key] = Line(value, [], "translated", f"not in the source: the default of {tool}")

    def drop(self, given: Given, why: str) -> None:
        self.dropped.append(Left(given, why))

    def refuse(self, given: Given, why: str) -> None:
        """What the source says and a job file cannot."""
        self.cannot.append(Left(given, why))

    def take_back(self, key: str, why: str, lines: dict[str, Line] | None = None) -> None:
        """A line that a job file (or the profile: `lines`) may not have after all."""
        line = (self.job if lines is None else lines).pop(key)
        self.cannot += [Left(one, why) for one in line.given or [Given(key, line.value, 0)]]
