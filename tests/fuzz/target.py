"""What is fuzzed: an input, and what is done with it; and the one rule that all of them are held to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from alignlaunch.launchers.errors import JobFileError, LaunchError
from alignlaunch.train.errors import UserError

from .guard import guarded


@dataclass(frozen=True)
class Target:
    """values: inputs. prepare: lays one down in an empty folder. use: what the product does with that folder and input.

    `use` may raise an error that is shown to the user as a message, and nothing else.
    """

    values: st.SearchStrategy[Any]
    use: Callable[[Path, Any], object]
    prepare: Callable[[Path, Any], object] = lambda *_: None

    def holds(self, value: Any) -> None:
        """Raises AssertionError, or whatever `use` raises that is no message."""
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name)
            self.prepare(folder, value)
            try:
                with guarded(folder):
                    self.use(folder, value)
            except (LaunchError, UserError) as error:
                _require_message(error)

    def run(self, examples: int, *, seed: bool) -> int:
        """Try so many inputs, with `seed` the same ones each time. Returns how many were tried."""
        tried = 0

        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=seed,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            print_blob=False,
        )
        @given(self.values)
        def one(value: Any) -> None:
            nonlocal tried
            tried += 1
            self.holds(value)

        one()
        return tried

    def of_bytes(self) -> Callable[[bytes], object]:
        """Try the input that these bytes stand for: how atheris chooses one."""

        @settings(deadline=None, database=None)
        @given(self.values)
        def one(value: Any) -> None:
            self.holds(value)

        found: Callable[[bytes], object] = one.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
        return found


def _require_message(error: Exception) -> None:
    text = str(error)
    assert text.strip(), "an error without words"
    assert len(text) < 100_000, "a message without end"
    if isinstance(error, JobFileError):
        assert error.problems
        assert all(one.place and one.rule and one.remedy for one in error.problems), error.problems
