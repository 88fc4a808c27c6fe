"""What DeepSpeed (0.19.8) must be told for a folder of each node, which it takes for the one folder of all ranks.

Each rank writes its part of the optimizer's state, and under ZeRO-3 of the weights, and reads no other's. But what all
need is written by global rank 0 alone: the weights of ZeRO-1 and 2, and the file that names the folder of the state.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import commit

#: DeepSpeed's file that names the folder of the state.
_LATEST = "latest"


class Part:
    """A node's part of a checkpoint. folder: the checkpoint's. writes: whether this rank writes for its node.

    The error of a file that cannot be written is kept until all ranks have written theirs: DeepSpeed and transformers
    let them wait for each other meanwhile.
    """

    def __init__(self, folder: Path, *, writes: bool) -> None:
        self._folder, self._writes = folder, writes
        self._error: UserError | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the error for `complete`."""
        try:
            with commit.writing(self._folder):
                yield
        except UserError as error:
            self._error = self._error or error

    @contextmanager
    def written_by(self, engine: Any, stage: int) -> Iterator[None]:
        """Have a DeepSpeed engine write this rank's files. stage: 0 if there is none."""
        if not stage:
            yield
            return
        to, script = engine.checkpoint_engine, engine._copy_recovery_script
        save = to.save

        def saved(state_dict: Any, path: str) -> None:
            with self.kept():
                save(state_dict, path)
            if self._error:
                Path(path).unlink(missing_ok=True)  # of no use, and the disk may be full

        def scripted(path: str) -> None:
            with self.kept():
                script(path)

        own = {
            "save_non_zero_checkpoint": stage == 3 or self._writes,
            "save_checkpoint": partial(engine.save_checkpoint, save_latest=False),
            "_copy_recovery_script": scripted,
        }
        with changed(to, save=saved), changed(engine, **own):
            yield

    def complete(self) -> None:
        """Write what is still missing. Raises UserError, also the one that was kept."""
        if self._error:
            raise self._error
        if self._writes:
            with commit.writing(self._folder):
                for state in self._folder.glob("global_step*"):
                    (self._folder / _LATEST).write_text(state.name, encoding="utf-8")


@contextmanager
def changed(owner: Any, **values: Any) -> Iterator[None]:
    """Give attributes of an object other values for a while, also those that its class has."""
    before = dict(vars(owner))
    try:
        for name, value in values.items():
            setattr(owner, name, value)
        yield
    finally:
        for name in values:
            if name in before:
                setattr(owner, name, before[name])
            else:
                delattr(owner, name)
