"""One pass over the lines of each log. Keeps only relevant lines, so that memory does not grow with the log."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain, islice

from .failures import Failure, Summary, of_srun
from .lines import Line, Source
from .patterns import Pattern, matches, may_match

#: What a process logs when a peer is gone, or when its launcher ends it: a consequence, never a cause.
CONSEQUENCE = re.compile(
    r"Connection (?:reset|closed) by peer|Broken pipe|remote process exited|recvValue failed|got 0 bytes"
    r"|SignalException: Process \d+ got signal|Received Signals\.SIG(?:TERM|INT) death signal|CANCELLED AT"
)
#: The first line of job.sbatch, or of rank 0 after a restart: what the log shows of earlier attempts does not count.
#: (That torchrun is about to restart says nothing: a node may be waiting for one that has given up.)
_ATTEMPT = re.compile(
    r"alignlaunch: \S+(?: \(\w+\): \d+ nodes x \d+ = \d+ processes; head "
    r"|: stage \w+, process 0 of \d+ \(torchrun\), \d+ on this node, restart [1-9])"
)
#: What torchrun.sh and deepspeed.sh print on each node.
_NODE = re.compile(r"nodes +\d+, this is (\d{1,5}), head ")
#: c10d logs a failed look-up of a host even if another way to resolve it works. It counts only if _GAVE_UP follows.
_LOOKUP = re.compile(r"network addresses of \((?P<host>[^,\s]+), \d+\) cannot be retrieved")
_GAVE_UP = re.compile(r"client socket has .* connect to (?:any network address of )?\((?P<host>[^,\s]+), \d+\)")
_CHAINED = re.compile(r"During handling of the above exception|The above exception was the direct cause")
#: Limits on what is kept, whatever a log contains.
_MOST_SOURCES, _MOST_HITS = 2048, 256
_MOST_FRAMES, _MOST_MESSAGE, _LONGEST = 16, 5, 400


@dataclass
class Traceback:
    """A Python traceback of one source, with the exception's message."""

    source: Source
    place: str
    frames: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_FRAMES))
    message: list[str] = field(default_factory=list)
    open: bool = True  # more lines of it may follow

    @property
    def lines(self) -> list[str]:
        return ["Traceback (most recent call last):", *self.frames, *self.message]

    @property
    def is_summary(self) -> bool:
        """Whether it is a launcher's, raised because one of its processes failed."""
        return any("ChildFailedError" in line for line in self.message)

    @property
    def is_consequence(self) -> bool:
        return bool(CONSEQUENCE.search("\n".join(self.message)))


@dataclass(frozen=True)
class Hit:
    """A line that a pattern matches. order: the line's number over all logs."""

    pattern: Pattern
    match: re.Match[str]
    line: Line
    order: int


class Scan:
    """What was found in one log, or with `add` in several. count: number of lines in the logs before it."""

    def __init__(self, count: int = 0) -> None:
        self.count = count
        self._forget()

    def _forget(self) -> None:
        self.hits: dict[str, dict[Source, Hit]] = defaultdict(dict)  # pattern → the first of each source
        self.tracebacks: dict[Source, Traceback] = {}  # the first of each source
        self.failures: list[Failure] = []
        self.followers: set[Source] = set()  # who lost a peer, or was ended by its launcher
        self.last: deque[Line] = deque(maxlen=5)
        self._summaries: dict[Source, Summary] = {}
        self._chained: set[Source] = set()
        self._nodes: dict[str, Line] = {}  # NODE_RANK → line of the node that has it
        self._unresolved: set[str] = set()  # hosts whose look-up failed

    def feed(self, lines: Iterable[Line]) -> None:
        """Take more lines of the log. When a new attempt starts, forget what this log (and no other) showed before."""
        for line in lines:
            if _ATTEMPT.match(line.text):
                self._forget()
            self.count += 1
            self.last.append(line)
            self._traceback(line)
            self._process(line)
            self._node(line)
            if may_match(line.text):
                self._resolution(line)
                self._match(line)
                if len(self.followers) < _MOST_SOURCES and CONSEQUENCE.search(line.text):
                    self.followers.add(line.source)

    def add(self, log: Scan) -> None:
        """Add what was found in another log, which was read after these and closed."""
        self.count = log.count
        for hit in chain.from_iterable(hits.values() for hits in log.hits.values()):
            self._keep(hit)
        for source, traceback in log.tracebacks.items():
            if len(self.tracebacks) < _MOST_SOURCES:
                self.tracebacks.setdefault(source, traceback)
        self.failures += log.failures[: max(0, _MOST_SOURCES - len(self.failures))]
        self.followers.update(islice(log.followers, max(0, _MOST_SOURCES - len(self.followers))))
        self.last.extend(log.last)
        for line in log._nodes.values():
            self._node(line)

    def add_failure(self, failure: Failure, place: str) -> None:
        """Record how a process ended, and match the lines of its report as lines of that process."""
        self.failures.append(failure)
        source = Source(failure.rank, failure.where)
        for text in (failure.shown, *failure.traceback):
            self._match(Line(source, text, place))

    def close(self) -> None:
        """After the last line: end the summaries that are still open."""
        for source, summary in self._summaries.items():
            if failure := summary.close():
                self.add_failure(failure, source.where)

    def _match(self, line: Line, order: int | None = None) -> None:
        """Look a line up in the table. order: instead of the line's number."""
        for pattern, match in matches(line.text):
            self._keep(Hit(pattern, match, line, self.count if order is None else order))

    def _keep(self, hit: Hit) -> None:
        hits = self.hits[hit.pattern.name]
        if len(hits) < _MOST_HITS:
            hits.setdefault(hit.line.source, hit)

    def _process(self, line: Line) -> None:
        """Parse torchelastic's summary, and srun's lines about failed tasks."""
        if line.text.startswith(("Root Cause (first", "Failures:")) and len(self._summaries) < _MOST_SOURCES:
            self._summaries.setdefault(line.source, Summary(line.source.where))
        summary = self._summaries.get(line.source)
        failure = (summary.feed(line.text) if summary else None) or of_srun(line.text)
        if failure and len(self.failures) < _MOST_SOURCES:
            self.add_failure(failure, line.place)

    def _node(self, line: Line) -> None:
        """Detect two nodes with the same NODE_RANK, which no line reports. order 0: the other errors follow from it."""
        if (match := _NODE.match(line.text)) and len(self._nodes) < _MOST_SOURCES:
            other = self._nodes.setdefault(match[1], line).source
            if other != line.source:
                text = f"NODE_RANK {match[1]} is that of {other} and of {line.source}"
                self._match(Line(line.source, text, line.place), order=0)

    def _resolution(self, line: Line) -> None:
        """Detect a host that could not be resolved and then not be reached."""
        if (match := _LOOKUP.search(line.text)) and len(self._unresolved) < _MOST_SOURCES:
            self._unresolved.add(match["host"])
        elif (match := _GAVE_UP.search(line.text)) and match["host"] in self._unresolved:
            self._match(Line(line.source, f"{match['host']} does not resolve", line.place), order=self.count - 1)

    def _traceback(self, line: Line) -> None:
        text, known = line.text, self.tracebacks.get(line.source)
        if text.startswith("Traceback (most recent call last)"):
            if known is None or line.source in self._chained:  # of chained tracebacks the last one counts
                self._chained.discard(line.source)
                if len(self.tracebacks) < _MOST_SOURCES:
                    self.tracebacks[line.source] = Traceback(line.source, line.place)
            elif known.open:
                known.open = False
        elif known is None:
            return
        elif _CHAINED.match(text):
            known.open = False
            self._chained.add(line.source)
        elif known.open and text.startswith(" ") and not known.message:
            known.frames.append(text[:_LONGEST])
        elif known.open and not text:
            known.open = not known.message
        elif known.open:
            known.message.append(text[:_LONGEST])
            known.open = len(known.message) < _MOST_MESSAGE
