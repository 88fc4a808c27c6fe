"""constraints.txt names one version of all that an installation brings, within what pyproject.toml allows."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DIRECT = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}
#: Not by constraints: its build is the machine's. What `plot` brings is no part of an installation that is tested.
APART = {"torch"}
INSTALLED = [*DIRECT, *(one for name, extra in EXTRAS.items() if name != "plot" for one in extra)]
INSTALLED = [one for one in INSTALLED if one.name != PROJECT["name"]]  # an extra that holds another


def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    named = [re.fullmatch(r"(\S+)==(\S+)", line) for line in lines]
    assert all(named), lines
    return {canonicalize_name(match[1]): match[2] for match in named if match}


def everything(requirements: list[Requirement]) -> set[str]:
    """The names of what these need, and of what that needs in turn."""
    found: set[str] = set()
    due = list(requirements)
    while due:
        one = due.pop()
        name = canonicalize_name(one.name)
        if name in found | APART or (one.marker and not one.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        for text in distribution(name).requires or []:
            further = Requirement(text)
            extras = one.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                due.append(Requirement(text.partition(";")[0]))
    return found


def test_every_package_has_its_version() -> None:
    assert distribution("torch")  # of an installation with all extras, else there is nothing to compare
    assert everything(INSTALLED) - pins().keys() == set()
    assert APART.isdisjoint(pins())


@pytest.mark.parametrize("requirement", INSTALLED, ids=str)
def test_it_is_within_the_bounds(requirement: Requirement) -> None:
    name = canonicalize_name(requirement.name)
    if name not in APART:
        assert pins()[name] in requirement.specifier
