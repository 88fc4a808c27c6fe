"""A report of several runs as one HTML page, which needs no network and no server.

Everything a run wrote is escaped by the template, or travels as gzip in base64, of which no byte can end a script. The
page's own policy (CSP) forbids it to load anything.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from datetime import datetime

import jinja2

import alignlaunch

from ..errors import UsageError, printable
from ..paths import PACKAGE
from . import figures, sections, summary, table
from .gather import Result

#: The highest saves 1 % more, in thrice the time.
_COMPRESSION = 6


def render(results: Sequence[Result]) -> str:
    """The page. Raises UsageError without plotly."""
    library = _library()
    compared = summary.compare(results)
    labels = [printable(label) for label in table.labels(compared.rows)]
    drawn = figures.of(results)
    safety_names, safety_rows = sections.safety(results, labels)
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PACKAGE / "templates"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=True,
    )
    page = env.get_template("report/page.html.j2").render(
        labels=labels,
        made=f"{datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        version=alignlaunch.__version__,
        notes=[(label, note) for label, result in zip(labels, results, strict=True) for note in result.notes],
        columns=compared.shown,
        rows=table.cells(compared.rows, compared.shown),
        figures=drawn,
        thinned_to=figures.most_points(drawn) if figures.is_thinned(results, drawn) else None,
        attempts=sections.attempts(results, labels),
        shares=sections.shares(results, labels),
        different=compared.different,
        same=compared.same,
        data=sections.data(results, labels),
        safety_names=safety_names,
        safety=safety_rows,
        answers=sections.answers(results, labels),
        most_answers=sections.MOST_ANSWERS,
        provenance=sections.provenance(results, labels),
        curves=_packed(json.dumps({"labels": labels, "figures": drawn}, separators=(",", ":"), allow_nan=False)),
        library=_packed(library),
    )
    return printable(page)  # of what cannot be written as UTF-8, too


def _library() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise UsageError(
            f"report: plotly cannot be used here ({error})\n    remedy: pip install 'alignlaunch[report]'"
        ) from error
    found: str = get_plotlyjs()
    return found


def _packed(text: str) -> str:
    """Gzip in base64, which a browser unpacks by itself; the same bytes each time."""
    return base64.b64encode(gzip.compress(text.encode(), _COMPRESSION, mtime=0)).decode("ascii")
