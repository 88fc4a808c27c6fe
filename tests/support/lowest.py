"""The lowest versions that pyproject.toml says the submitting side works with, as constraints: `make test-lowest`."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def lowest(pyproject: dict[str, Any]) -> Iterator[str]:
    """`name==version` for every lower bound of what a submission, and the building of the package, needs."""
    extras = pyproject["project"]["optional-dependencies"]
    wanted = ("k8s", "plot", "import", "report")
    requirements = [*pyproject["project"]["dependencies"], *(one for extra in wanted for one in extras[extra])]
    for text in [*pyproject["build-system"]["requires"], *requirements]:
        name, bound = re.fullmatch(r"([\w-]+)[>=]=([\w.]+)", text).groups()  # type: ignore[union-attr]
        yield f"{name}=={bound}"


if __name__ == "__main__":
    pyproject = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    sys.stdout.writelines(f"{line}\n" for line in lowest(pyproject))
