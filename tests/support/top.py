"""`alignlaunch top` in a terminal of its own, over the runs of any cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .command import ALIGNLAUNCH, Command
from .terminal import Terminal, terminal


@contextmanager
def top(user: Command, pattern: str) -> Iterator[Terminal]:
    """`top` of the runs of these names, quit at the end."""
    command = [*ALIGNLAUNCH, "top", "--interval", "1", "--name", pattern]
    with terminal(command, user.folder, user.env, (30, 220)) as one:
        yield one
        one.press("q")
        code = one.process.wait(60)
        assert code == 0, f"exit {code}\n{one.text()[-3000:]}"
        assert "Traceback" not in one.text()


def rows(screen: list[str]) -> dict[str, list[str]]:
    """By the run's name the other cells: state, attempt, step ..."""
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in screen if line.startswith("│")]
    return {name: rest for name, *rest in cells}


def states(screen: list[str]) -> dict[str, str]:
    return {name: cells[0] for name, cells in rows(screen).items()}


def cancel(one: Terminal, name: str, handle: str) -> None:
    """Select a run by keys, say no to the question, and yes to the next."""
    screen = one.until(lambda screen: name in rows(screen))
    for _ in rows(screen):
        one.press("k")
    for _ in range([*rows(screen)].index(name)):
        one.press("j")
    one.until(lambda screen: any(line.startswith(f"{handle} ") for line in screen))
    one.press("c")
    one.until(lambda screen: any(line.startswith(f"Cancel {handle} ") for line in screen))
    one.press("n")
    one.until(lambda screen: any(f"{handle} was not cancelled" in line for line in screen))
    assert states(one.screen())[name] != "CANCELLED"
    one.press("cy")
    one.until(lambda screen: states(screen).get(name) == "CANCELLED")
