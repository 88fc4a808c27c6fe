"""Two nodes copy their parts of a checkpoint, each for itself; what one cannot copy is committed by none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.train.errors import UserError
from alignlaunch.train.outputs import commit, copying, manifest
from alignlaunch.train.outputs.copying import Copying
from alignlaunch.train.outputs.manifest import File, Manifest


def parts(root: Path) -> tuple[dict[int, Path], Manifest]:
    """A checkpoint of step 4 on two nodes with two processes each: {first rank: folder}, and its manifest."""
    folders, files = {}, list[File]()
    for first in (0, 2):
        folder = folders[first] = root / f"node-{first}/checkpoint-4"
        folder.mkdir(parents=True)
        names = {"model.safetensors": first, f"rng_state_{first}.pth": first, f"rng_state_{first + 1}.pth": first + 1}
        for name, rank in names.items():
            (folder / name).write_text(f"{name} of rank {rank}")
            files.append(manifest.describe(folder, folder / name, rank))
    about: dict[str, Any] = {"step": 4, "epoch": 0.5, "records": 16, "rows": 32, "processes": 4, "zero_stage": 0}
    whole = Manifest(**about, run_id="r", job={}, written="now", files=files)
    for folder in folders.values():
        manifest.write(folder, whole)
    return folders, whole


def both(folders: dict[int, Path], whole: Manifest, output_dir: Path) -> list[Copying]:
    one = copying.single(whole)

    def first() -> None:
        folder = copying.copy(folders[0], one, output_dir, range(0, 2))
        copying.wait_for(folder, [0, 2])
        commit.publish(folder, one, 2, set())

    return [
        Copying(folders[0], first),
        Copying(folders[2], lambda: copying.copy(folders[2], one, output_dir, range(2, 4))),
    ]


def test_each_file_is_there_once_and_the_checkpoint_is_whole(tmp_path: Path) -> None:
    folders, whole = parts(tmp_path)
    for one in both(folders, whole, tmp_path / "out"):
        one.wait()
    (copy,) = (tmp_path / "out").glob("checkpoint-*")
    found = manifest.read(copy)
    assert found is not None
    assert manifest.missing(copy, found) == ""
    assert [(file.path, file.rank) for file in found.files] == [
        ("model.safetensors", 0),
        *((f"rng_state_{rank}.pth", rank) for rank in range(4)),
    ]
    assert {file: manifest.describe(copy, copy / file.path, file.rank) for file in found.files} == {
        file: file for file in found.files
    }
    assert not list((tmp_path / "out/.saving").iterdir())


def test_a_file_that_is_not_as_it_was_saved_is_no_ones_checkpoint(tmp_path: Path) -> None:
    folders, whole = parts(tmp_path)
    (folders[2] / "rng_state_3.pth").write_text("rng_state_3.pth of rank 2")
    for one in both(folders, whole, tmp_path / "out"):
        with pytest.raises(UserError, match=r"rng_state_3\.pth: not what was saved"):
            one.wait()
    assert not list((tmp_path / "out").glob("checkpoint-*"))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folders, whole = parts(tmp_path)
    (tmp_path / "out").write_text("a file")
    one = Copying(folders[0], lambda: copying.copy(folders[0], whole, tmp_path / "out", range(0, 2)))
    with pytest.raises(UserError, match=re.escape(f"{tmp_path}/out")):
        one.wait()
