"""docs/diagnose.md: each known fault and its verdict. `python -m bench.diagnose.table --write docs/diagnose.md`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from alignlaunch.launchers.diagnose import report
from alignlaunch.launchers.diagnose.judge import Verdict
from alignlaunch.launchers.diagnose.patterns import PATTERNS

from .. import made_page
from .provoke import LOGS


def page() -> Iterator[str]:
    """The page's lines."""
    yield "<!-- Made by `python -m bench.diagnose.table --write docs/diagnose.md`. Do not edit. -->"
    yield HEAD
    paths = sorted(LOGS.glob("*.log"), key=_order)
    yield ""
    yield f"## Known faults: {len(PATTERNS)}, in {len(paths)} logs"
    yield ""
    yield "| log | verdict | first | cause | remedy | another attempt | had by |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    right = dict.fromkeys(("provoked here", "told by others"), 0)
    known = dict(right)
    for path in paths:
        ((_, found),) = report.diagnose(str(path), lambda _: None)
        kind = "provoked here" if _source(path) == "provoked" else "told by others"
        known[kind] += 1
        right[kind] += found.name == path.name.partition(".")[0]
        first = found.first.partition(", 20")[0] or "–"
        cells = (path.stem, found.name, first, found.cause, found.remedy or "–", _retry(found), _source(path))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    told = ", ".join(f"{right[kind]} of {known[kind]} {kind}" for kind in known)
    yield f"Verdicts that name the true cause, which is the log's name: {told}. The patterns were made with"
    yield "these logs at hand: of others this is an upper bound. Each stands behind the warnings of healthy runs, too."


def _order(path: Path) -> tuple[int, str]:
    """As the table of patterns has them; healthy logs first."""
    names = ["no-failure", *(pattern.name for pattern in PATTERNS)]
    name = path.name.partition(".")[0]
    return (names.index(name) if name in names else len(names), path.name)


def _retry(found: Verdict) -> str:
    return found.retry.value if found.retry else "–"


def _source(path: Path) -> str:
    head = path.read_text(encoding="utf-8").splitlines()[0]
    return "provoked" if head.startswith("# Provoked") else f"not provoked: {head.partition(': in the form of ')[2]}"


HEAD = """\
# What `alignlaunch diagnose` says

    alignlaunch diagnose            # the latest run; or its name, a pipeline's name, a handle
    alignlaunch diagnose DIR        # logs that somebody copied from elsewhere, one file or one a node or rank

It reads the logs of all ranks (prefixes of srun, torchrun, pods), torchelastic's summary and error files, what the
scheduler says, and the flight recorder's dumps. It names the rank that failed first, shows the end of its traceback
and counts those that only went after it. Cause and remedy come from a table, `launchers/diagnose/patterns.toml`,
whose head says which entry wins; what it does not know it calls `unknown` and shows. After a GPU ran out of memory
the planner says what would fit in this very job. Exit codes: 0, whatever the verdict; 2 bad input.

Of a log larger than 17 MiB the first MiB and the last 16 are read. Several files share 64 MiB, but at least 256 KiB of
each are read, and at most 4,096 files of a folder. Notes tell what was left out, and what cannot be read.

GPU jobs set `TORCH_FR_BUFFER_SIZE`, `TORCH_NCCL_DUMP_ON_TIMEOUT` and `TORCH_FR_DUMP_TEMP_FILE`: when a collective
times out, each rank leaves its last ones as `fr_rank_N` in the run's folder (in pods and by hand in the output
folder). The dumps are pickles; whatever in them is not a plain container is refused, so that none can run code.
They name the collective that did not end, and the ranks that did not come to it."""


if __name__ == "__main__":
    made_page.main(__doc__, lambda: "\n".join(page()) + "\n")
