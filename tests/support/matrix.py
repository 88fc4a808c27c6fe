"""Parameters of a test that only `make test-matrix` runs."""

from __future__ import annotations

from typing import Any

import pytest


def matrix(*values: Any) -> Any:
    """`pytest.param`, left out of `make test`."""
    return pytest.param(*values, marks=pytest.mark.matrix)
