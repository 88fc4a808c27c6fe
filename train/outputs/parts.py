"""What a node's own folder needs under ZeRO, where DeepSpeed (0.19.8) takes it for the one folder of all ranks.

Each rank writes its part of the optimizer's state, and under ZeRO-3 of the weights, and reads no other's. But what all
need is written by global rank 0 alone: the weights of ZeRO-1 and 2, and the file that names the folder of the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import commit

#: The name of DeepSpeed's file that names the folder of the state.
_LATEST = "latest"


@contextmanager
def changed(owner: Any, **values: Any) -> Iterator[None]:
    """Give an object's attributes other values for a while."""
    before = {name: getattr(owner, name) for name in values}
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


class Parts:
    """This rank's part of a checkpoint that is written into a folder of its node's.

    folder: the checkpoint's. writes: whether this rank writes for its node what only one process writes. An error
    is kept until all ranks have written: DeepSpeed has them wait for each other meanwhile.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self._folder, self._writes = folder, writes
        self._error: UserError | None = None

    @contextmanager
    def late(self) -> Iterator[None]:
        """Keep the error of a file that cannot be written, for `complete`."""
        try:
            with commit.writing(self._folder):
                yield
        except UserError as error:
            self._error = self._error or error

    @contextmanager
    def of(self, engine: Any, stage: int) -> Iterator[None]:
        """Have a DeepSpeed engine write this rank's files."""
        save = engine.checkpoint_engine.save

        def saved(state_dict: Any, path: str) -> None:
            with self.late():
                save(state_dict, path)
            if self._error:
                Path(path).unlink(missing_ok=True)  # on a full disk this makes room for the small files that follow

        with (
            changed(engine.checkpoint_engine, save=saved),
            changed(engine, save_non_zero_checkpoint=stage == 3 or self._writes),
        ):
            yield

    def complete(self) -> None:
        """Write what is still missing on this node. Raises UserError, also if an earlier file could not be written."""
        if self._error:
            raise self._error
        if self._writes:
            with commit.writing(self._folder):
                (state,) = self._folder.glob("global_step*")
                (self._folder / _LATEST).write_text(state.name, encoding="utf-8")
