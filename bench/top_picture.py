"""docs/top.svg: `alignlaunch top` in tmux, over runs here. `python -m bench.top_picture --write docs/top.svg`.

The runs are real processes that sleep, and their records are made up; what is drawn is what tmux shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.launchers.submit.stub_runs import submit
from tests.launchers.submit.stub_steps import call, environment, make_place
from tests.support import tmux
from tests.support.command import ALIGNLAUNCH

from . import made_page, picture

RUNS = {
    "qwen3-sft": [2.41, 2.02, 1.87, 1.8],
    "qwen3-orpo-lr1e-5": [1.93, 1.71],
    "qwen3-orpo-lr2e-5": [1.93, 1.64, 1.52],
}
FAILED = "qwen3-dpo"
#: As wide as the picture.
SIZE = (14, picture.COLUMNS)


def page() -> str:
    """The whole picture."""
    return picture.svg(screen())


def screen() -> list[str]:
    """The lines of the terminal, sorted by loss."""
    with runs() as place, tmux.session(place, environment(place), SIZE) as one:
        one.type(f"{' '.join(ALIGNLAUNCH)} top", "Enter")
        one.until(lambda lines: sum("RUNNING" in line for line in lines[1:]) == len(RUNS))
        one.type("s", "s", "s", "s", "s", "j")
        found = one.until(lambda lines: any("LOSS ▲" in line for line in lines))
        one.type("q")
    while not found[-1]:
        found.pop()
    return ["$ alignlaunch top", "", *(line.replace(str(place), "/shared") for line in found)]


@contextmanager
def runs() -> Iterator[Path]:
    """The folder of the runs, which are cancelled at the end."""
    with TemporaryDirectory(prefix="alignlaunch-top-") as folder:
        place = make_place(Path(folder))
        submit(place, FAILED, [0.69], act="1")
        for name, losses in RUNS.items():
            submit(place, name, losses)
        try:
            yield place
        finally:
            for name in RUNS:
                call(place, "cancel", name)


if __name__ == "__main__":
    made_page.main(__doc__, page)
