"""Resource quantities: `500m`, `8`, `64Gi`."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from decimal import Decimal

PATTERN = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
SUFFIXES = {
    **{name: Decimal(1000) ** power for power, name in enumerate("n u m".split(), start=-3)},
    **{name: Decimal(1000) ** power for power, name in enumerate("k M G T P E".split(), start=1)},
    **{name: Decimal(1024) ** power for power, name in enumerate("Ki Mi Gi Ti Pi Ei".split(), start=1)},
}


def quantity(value: str | int | float) -> Decimal:
    """The number; ValueError unless it is a quantity."""
    text = str(value)
    if not re.match(PATTERN, text):
        raise ValueError(f"quantities must match the regular expression '{PATTERN}'")
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if text.endswith(suffix):
            return Decimal(text.removesuffix(suffix)) * SUFFIXES[suffix]
    return Decimal(text)


def amounts(given: Mapping[str, str | int] | None) -> dict[str, Decimal]:
    """A resource list as numbers."""
    return {name: quantity(value) for name, value in (given or {}).items()}


def total(parts: Iterable[Mapping[str, Decimal]]) -> dict[str, Decimal]:
    """The sum of resource lists."""
    summed: defaultdict[str, Decimal] = defaultdict(Decimal)
    for part in parts:
        for name, amount in part.items():
            summed[name] += amount
    return dict(summed)


def is_extended(resource: str) -> bool:
    """Whether a resource is counted in whole devices: `nvidia.com/gpu`, unlike cpu, memory and `kubernetes.io/...`."""
    return "/" in resource and not resource.split("/", maxsplit=1)[0].endswith("kubernetes.io")
