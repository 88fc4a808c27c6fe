"""A checkpoint of the second tier is copied to the output folder while training goes on, by one process of each node.

The threads that copy may use no collective, since the training does. They meet in files: each node says that its part
is there, then rank 0 commits the checkpoint. No torch here.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..errors import UserError
from . import manifest
from .checkpoints import ASIDE
from .manifest import File, Manifest

#: Seconds between two looks for what other nodes have written.
_INTERVAL = 0.2


class Copying:
    """A copy under way. source: this node's part of the checkpoint."""

    def __init__(self, source: Path, copy: Callable[[], object]) -> None:
        self.source = source
        self._copy, self._error = copy, UserError("")
        # A daemon: a process that must end does not wait for it.
        self._thread = threading.Thread(target=self._run, name="copying", daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Wait for its end. Raises UserError if it failed."""
        self._thread.join()
        if str(self._error):
            raise self._error

    def _run(self) -> None:
        try:
            self._copy()
        except UserError as error:
            self._error = error
        except OSError as error:
            self._error = UserError(f"{error.filename}: the checkpoint cannot be copied there: {error.strerror}")


def single(whole: Manifest) -> Manifest:
    """The manifest of the copy. Of files that each node has for itself, that of the lowest rank is copied."""
    files: dict[str, File] = {}
    for file in sorted(whole.files, key=lambda one: one.rank):
        files.setdefault(file.path, file)
    return Manifest(**{name: getattr(whole, name) for name in whole.__struct_fields__} | {"files": [*files.values()]})


def copy(source: Path, whole: Manifest, output_dir: Path, ranks: range) -> Path:
    """Copy the files of these ranks, which are this node's, and say so to rank 0. Returns the folder.

    whole: of the copy. Raises UserError if a file is not there as it was written, and OSError.
    """
    folder = output_dir / ASIDE / source.name
    said = _said(folder)
    said.mkdir(parents=True, exist_ok=True)
    try:
        for file in whole.files:
            if file.rank in ranks:
                _copy(source, folder, file)
    except (OSError, UserError) as error:
        _say(said / str(ranks.start), str(error))
        raise
    _say(said / str(ranks.start), "")
    return folder


def _copy(source: Path, folder: Path, file: File) -> None:
    target = folder / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / file.path, target)
    if manifest.describe(folder, target, file.rank) != file:
        raise UserError(f"{target}: not what was saved in {source}")


def wait_for(folder: Path, nodes: Sequence[int]) -> None:
    """Wait until all nodes have copied their files. nodes: by their first ranks. Raises UserError if one could not."""
    said = _said(folder)
    for node in nodes:
        while not (said / str(node)).exists():
            time.sleep(_INTERVAL)
        if error := (said / str(node)).read_text(encoding="utf-8"):
            raise UserError(error)
    shutil.rmtree(said)


def _said(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.copied")


def _say(file: Path, text: str) -> None:
    """Write a file that has all of its text as soon as it is seen."""
    aside = file.with_suffix(".new")
    aside.write_text(text, encoding="utf-8")
    aside.rename(file)
