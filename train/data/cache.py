"""The cache of prepared data: one folder per prepared dataset, named by a hash of everything its rows depend on.

A finished folder is never modified, because another job may be reading it. It is removed once no job has started with
it for KEPT_DAYS.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import UserError

ROWS = "data.arrow"
REPORT = "report.json"
#: Chunks that are written as one Arrow batch: finding a row among many small batches is slow.
TABLES_AT_ONCE = 32
KEPT_DAYS = 30
#: Days after which the unfinished folder of a killed run is removed.
ABANDONED_DAYS = 2
_DAY = 24 * 3600
PACKAGES = ("transformers", "tokenizers", "jinja2", "pillow")


def name(settings: Iterable[str]) -> str:
    """The folder's name: a hash of the settings, of the code in this package and of the libraries' versions."""
    versions = [f"{package} {metadata.version(package)}" for package in PACKAGES if _is_installed(package)]
    return hashlib.sha256("\0".join([_code(), *versions, *settings]).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _code() -> str:
    """The code of this package, which makes rows from records. File names do not count, so files can be moved."""
    return "".join(sorted(meaning(path.read_text(encoding="utf-8")) for path in Path(__file__).parent.rglob("*.py")))


def meaning(source: str) -> str:
    """Python source without comments, layout and docstrings: these change no row, so they must not change the name."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if ast.get_docstring(node, clean=False) if isinstance(node, _DOCUMENTED) else None:
            del node.body[0]  # type: ignore[attr-defined]
    return ast.dump(tree)


_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def made(root: Path, name: str, make: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """The folder `name` below `root` and its report. If it does not exist yet, `make` fills it and returns the report.

    Raises UserError if the cache cannot be written.
    """
    folder = root / name
    try:
        if not (folder / REPORT).is_file():
            root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=root, prefix=f".{name}.", ignore_cleanup_errors=True) as scratch:
                work = Path(scratch) / name
                work.mkdir()
                (work / REPORT).write_text(json.dumps(make(work)), encoding="utf-8")
                _publish(work, folder)
        report: dict[str, Any] = json.loads((folder / REPORT).read_text(encoding="utf-8"))
        _mark_as_used(folder)
        _remove_old(root)
    except OSError as error:
        raise UserError(f"data.cache_dir: {root}: {error.strerror or error}. Make room, or name another.") from error
    return folder, report


def write(path: Path, batches: Iterator[bytes]) -> None:
    """Join Arrow streams into one file, which `datasets` can memory-map; writes no file if there are none."""
    import pyarrow as pa  # type: ignore[import-untyped]

    tables = (pa.ipc.open_stream(batch).read_all() for batch in batches)
    groups = iter(lambda: list(itertools.islice(tables, TABLES_AT_ONCE)), [])
    stream = None
    try:
        for group in groups:
            stream = stream or pa.ipc.new_stream(str(path), group[0].schema)
            stream.write_table(pa.concat_tables(group).combine_chunks())
    finally:
        if stream is not None:
            stream.close()


def _publish(work: Path, folder: Path) -> None:
    try:
        work.rename(folder)
    except OSError:
        if (folder / REPORT).is_file():  # another job published the same content first
            return
        folder.rename(work.with_suffix(".broken"))  # the old folder is damaged: part of it was deleted
        work.rename(folder)


def _mark_as_used(folder: Path) -> None:
    try:
        os.utime(folder / REPORT)
    except OSError:  # another user's folder, which we may only read
        return


def _remove_old(root: Path) -> None:
    """Remove folders that are long unused and leftovers of killed runs; what cannot be removed stays."""
    now = time.time()
    for entry in root.iterdir():
        abandoned = entry.name.startswith(".")
        last = max(map(_time, [entry, *entry.rglob("*")] if abandoned else [entry / REPORT]))
        if entry.is_dir() and now - last > (ABANDONED_DAYS if abandoned else KEPT_DAYS) * _DAY:
            shutil.rmtree(entry, ignore_errors=True)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # just removed, or never there: counts as new
        return time.time()
