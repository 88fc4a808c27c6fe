"""The command line of the modules here that make a JSON file from what is installed."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def main(description: str | None, file: Path, text: Callable[[], str]) -> None:
    """Print the file's content, or write it in place."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--write", action="store_true", help=f"write {file.name} in place")
    if parser.parse_args().write:
        file.write_text(text(), encoding="utf-8")
    else:
        print(text(), end="")  # noqa: T201 - the command's output
