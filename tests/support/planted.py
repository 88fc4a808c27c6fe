"""A secret in the environment of a submission: where it is found while the job runs, and what holds it afterwards."""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

_TOKEN = re.compile(rb"ALIGNLAUNCH_TOKEN=([^\0]+)")


class Planted:
    """Secrets that a user exports. While it is entered, every process of the machine is looked at again and again."""

    def __init__(self, *names: str) -> None:
        self.env = {name: f"planted-{secrets.token_hex(12)}" for name in names}
        #: Modules of training whose processes had all of them, and the tokens of the runs that were seen.
        self.arrived: set[str] = set()
        self.tokens: set[str] = set()
        #: Command lines with one of them.
        self.shown: set[str] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Planted:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        values = [value.encode() for value in self.env.values()]
        while not self._over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    command = (process / "cmdline").read_bytes()
                    hidden = [*values, *(token.encode() for token in self.tokens)]
                    if any(value in command for value in hidden):
                        self.shown.add(command.decode(errors="replace"))
                    if b"alignlaunch.train" in command:
                        environment = (process / "environ").read_bytes()
                        if all(value in environment for value in values):
                            self.arrived |= {
                                part.decode() for part in command.split(b"\0") if b"alignlaunch.train" in part
                            }
                            self.tokens |= {found.decode() for found in _TOKEN.findall(environment)}

    def require_hidden(self, folders: Iterable[Path], texts: Iterable[str] = ()) -> None:
        """Neither a command line, nor a file in these folders, nor one of the texts has a secret or the run's token."""
        hidden = [value.encode() for value in (*self.env.values(), *self.tokens)]
        assert not self.shown
        holding = [path for path in _files(folders) if any(value in path.read_bytes() for value in hidden)]
        assert not holding
        assert not [text for text in texts if any(value in text.encode() for value in hidden)]


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        assert folder.exists(), folder
        yield from (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
