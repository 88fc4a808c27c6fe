"""`python -m bench.fuzz_guided TARGET RUNS`: as bench.fuzz, but atheris chooses inputs by the code that they reach.

`make fuzz` runs it for each target that parses text.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["alignlaunch"]):
    from tests.fuzz.test_fuzz import ALL


def main() -> None:
    """Fuzz one target. The process ends with 77 at an input that breaks the rule."""
    _, name, runs = sys.argv
    atheris.Setup([sys.argv[0], f"-runs={runs}", "-max_len=4096", "-rss_limit_mb=4096"], ALL[name].of_bytes())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
