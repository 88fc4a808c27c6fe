"""Every entry of the table against what was really said: provoked here (`bench/diagnose`), or as the file names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlaunch.launchers.diagnose import report
from alignlaunch.launchers.diagnose.judge import Verdict
from alignlaunch.launchers.diagnose.patterns import PATTERNS, Pattern, may_match

LOGS = sorted((Path(__file__).parent / "logs").glob("*.log"))
#: Verdicts that no entry gives.
OTHERS = {"no-failure", "unknown"}


def verdict(path: Path) -> Verdict:
    ((_, found),) = report.diagnose(str(path), lambda _: None)
    return found


def expected(path: Path) -> str:
    return path.name.partition(".")[0]


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_excerpt_gets_its_verdict(path: Path) -> None:
    found = verdict(path)
    assert found.name == expected(path), found
    if found.name != "no-failure":
        assert found.evidence or found.traceback


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_the_excerpt_says_where_it_is_from(path: Path) -> None:
    head = path.read_text().splitlines()[0]
    assert head.startswith(("# Provoked by `python -m bench.diagnose.provoke ", "# Not provoked here, it needs a "))


def test_every_entry_has_an_excerpt_and_every_excerpt_an_entry() -> None:
    assert {expected(path) for path in LOGS} == {pattern.name for pattern in PATTERNS} | OTHERS


def alternatives(expression: str) -> list[str]:
    """What stands between the `|` of an expression, those within groups left alone."""
    depth, found = 0, [""]
    for sign in expression:
        depth += (sign == "(") - (sign == ")")
        if sign == "|" and depth == 0:
            found.append("")
        else:
            found[-1] += sign
    return found


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.name)
def test_a_line_that_an_entry_knows_is_looked_up(pattern: Pattern) -> None:
    """Each alternative asks for one of the words that let a line in."""
    for group in alternatives(pattern.regex.pattern):
        for one in alternatives(group.removeprefix("(?:").removesuffix(")")):
            assert may_match(one.replace("\\", "")), one


def test_every_entry_says_cause_and_remedy() -> None:
    for pattern in PATTERNS:
        assert pattern.cause
        assert not pattern.cause.endswith(".")
        assert "" in pattern.remedies
        assert all(pattern.remedies.values())
        for name in pattern.regex.groupindex:
            assert f"{{{name}}}" in pattern.cause


@pytest.mark.parametrize("path", [path for path in LOGS if expected(path) != "no-failure"], ids=lambda path: path.stem)
def test_what_healthy_runs_say_too_never_wins(path: Path, tmp_path: Path) -> None:
    """Warnings and all else that comes with every run, before the fault."""
    healthy = [line for log in LOGS if expected(log) == "no-failure" for line in log.read_text().splitlines()[1:]]
    log = tmp_path / path.name
    log.write_text("\n".join([*healthy, path.read_text()]))
    assert verdict(log).name == expected(path)
