"""The pages of docs/: what they show is what the commands print, what a command made is up to date, links lead on.

A fenced block `LANGUAGE file=NAME` is written to NAME. A block `console` is run: each line that begins with `$ ` by
bash, in a folder of the page's own, and what it prints (stdout and stderr) must be the lines below it. `...` alone
stands for any lines, within a line for any text.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from bench import defaults_page, importing, job_page, json_page, picture, simulation

from alignlaunch.launchers.job import legacy

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.glob("*.md")])
_BLOCK = re.compile(r"^```(?P<info>[^`\n]+)\n(?P<text>.*?)^```$", flags=re.MULTILINE | re.DOTALL)
#: Pages that answer one question each, with an example that runs.
WITH_EXAMPLE = (
    "commands defaults install job-file outputs pipelines resuming scripts slurm coming-from-your-own-scripts"
)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(what follows the backticks, text) of each fenced block."""
    return [(block["info"], block["text"]) for block in _BLOCK.finditer(page.read_text(encoding="utf-8"))]


def runs_something(page: Path) -> bool:
    return any(info == "console" for info, _ in blocks(page))


@pytest.fixture
def run(tmp_path: Path) -> Callable[[str], str]:
    """Run a line of bash in an empty folder with `alignlaunch` and no scheduler; returns what it printed."""
    commands, folder = tmp_path / "bin", tmp_path / "page"
    commands.mkdir()
    folder.mkdir()
    command = commands / "alignlaunch"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m alignlaunch.launchers.cli "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    (commands / "python3").symlink_to(sys.executable)
    (commands / "sinfo").write_text(
        "#!/bin/sh\n", encoding="utf-8"
    )  # one that is installed here would say that it is lost
    (commands / "sinfo").chmod(0o755)
    env = {"PATH": f"{commands}:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}
    for who in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{who}_NAME": "a reader", f"GIT_{who}_EMAIL": "reader@example.org"}

    def bash(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return done.stdout

    return bash


def examples(text: str) -> list[tuple[str, list[str]]]:
    """(command, lines that it prints) of a console block. A command goes on until its quotes are closed."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found[-1][0].count("'") % 2:  # a quoted text that goes on
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            found[-1][1].append(line)
    return found


def agree(expected: list[str], printed: list[str]) -> bool:
    """Whether the lines are the same, where `...` alone is any number of lines, and within a line any text."""
    if not expected or not printed:
        return all(line == "..." for line in expected) and not printed
    first, *rest = expected
    if first == "...":
        return agree(rest, printed) or agree(expected, printed[1:])
    pattern = re.sub(r"([\[*?])", r"[\1]", first).replace("...", "*")
    return fnmatchcase(printed[0], pattern) and agree(rest, printed[1:])


@pytest.mark.parametrize("page", [page for page in PAGES if runs_something(page)], ids=lambda page: page.stem)
def test_the_examples_of_a_page_print_what_it_shows(page: Path, run: Callable[[str], str], tmp_path: Path) -> None:
    for info, text in blocks(page):
        if named := re.fullmatch(r"\w+ file=(\S+)", info):
            path = tmp_path / "page" / named[1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        elif info == "console":
            for command, expected in examples(text):
                printed = run(command).splitlines()
                assert agree(expected, printed), f"$ {command}\n" + "\n".join(printed)


@pytest.mark.parametrize("name", WITH_EXAMPLE.split())
def test_each_question_has_a_page_with_an_example_that_runs(name: str) -> None:
    assert runs_something(DOCS / f"{name}.md")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        *(("a\nb", True), ("a\n...", True), ("...\nb", True), ("...", True), ("a...\nb", True)),
        *(("...\na", False), ("a", False), ("b\na", False), ("b...\n...", False), ("", False)),
    ],
)
def test_what_a_page_shows_is_compared_line_by_line(shown: str, expected: bool) -> None:
    assert agree(shown.splitlines(), ["a", "b"]) == expected


@pytest.mark.parametrize(
    ("name", "make", "page"),
    [
        ("job-file.md", "job-page", job_page.page),
        ("json.md", "json-page", json_page.page),
        ("defaults.md", "defaults-page", defaults_page.page),
        ("importing.md", "import-page", importing.page),
        ("quickstart.svg", "picture", picture.page),
        ("save-interval.md", "save-interval-page", simulation.page),
    ],
)
def test_what_is_made_by_a_command_is_up_to_date(name: str, make: str, page: Callable[[], str]) -> None:
    assert page() == (DOCS / name).read_text(encoding="utf-8"), f"run `make {make}` and read the diff"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link}
    assert [link for link in sorted(links) if link and not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if page.name != "README.md" and f"({page.name})" not in index] == []


def test_every_old_name_has_its_row() -> None:
    page = (DOCS / "coming-from-your-own-scripts.md").read_text(encoding="utf-8")
    for name, move in legacy.MOVES.items():
        now = f"`{move.to}`" if move.to else "not needed"
        assert f"| `{name}` | {now} |" in page, name


def test_the_readme_is_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 90


@pytest.mark.parametrize("side", ["launchers", "train"])
def test_the_rooms_of_the_architecture_are_those_of_the_code_in_the_order_of_imports(side: str) -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {side}/")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)/` \|", section, flags=re.MULTILINE)
    assert sorted(shown) == sorted(path.parent.name for path in (ROOT / side).glob("*/__init__.py"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (one["layers"] for one in contracts if one.get("containers") == [f"alignlaunch.{side}"])
    floors = {room: floor for floor, layer in enumerate(layers) for room in layer.split(" | ")}
    assert [floors[room] for room in shown] == sorted(floors[room] for room in shown)


def test_every_place_named_in_the_architecture_exists() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    places = re.findall(r"`((?:launchers|train|templates|zero_configs|tests|bench|examples)/[\w./-]*)`", text)
    assert [place for place in places if not os.path.exists(ROOT / place)] == []  # noqa: PTH110 - a trailing / counts
