"""A checkpoint is whole or not there, however its writer ends; one that was damaged later is noticed."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from alignlaunch.train.errors import UserError
from alignlaunch.train.outputs import checkpoints, commit, manifest
from alignlaunch.train.outputs.manifest import Manifest
from tests.support.matrix import matrix
from tests.train.conftest import Finished, Runner

RANKS = 2
SIZE = 200_000


def write(output: Path, step: int) -> Path:
    """The files of a checkpoint as two ranks leave them, not committed."""
    folder = output / checkpoints.ASIDE / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    names = ["model.safetensors", "trainer_state.json", "rng_state_0.pth", "rng_state_1.pth"]
    for name in [*names, "global_step/bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt"]:
        (folder / name).write_bytes(os.urandom(SIZE))
    return folder


def save(output: Path, step: int, limit: int | None = 2, kept: frozenset[str] = frozenset()) -> Path:
    """Write and commit."""
    folder = write(output, step)
    files = [file for rank in range(RANKS) for file in commit.described(folder, rank)]
    whole = Manifest(
        step=step,
        epoch=0.5,
        records=8,
        rows=16,
        processes=RANKS,
        zero_stage=2,
        run_id="r",
        job={},
        written="now",
        files=files,
    )
    commit.publish(folder, whole, limit, set(kept))
    return output / folder.name


def names(output: Path) -> list[str]:
    return [folder.name for folder in checkpoints.folders(output)]


def test_every_file_is_in_the_manifest_under_the_rank_that_wrote_it(tmp_path: Path) -> None:
    found = manifest.read(save(tmp_path, 5))
    assert found is not None
    ranks = {file.path.rpartition("/")[2]: file.rank for file in found.files}
    assert ranks == {
        "model.safetensors": 0,
        "trainer_state.json": 0,
        "rng_state_0.pth": 0,
        "rng_state_1.pth": 1,
        "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt": 1,
    }
    assert not (tmp_path / checkpoints.ASIDE / "checkpoint-5").exists()


def test_the_last_are_kept_and_the_best_besides(tmp_path: Path) -> None:
    for step in (9, 10, 11):
        save(tmp_path, step, limit=2, kept=frozenset({"checkpoint-9"}))
    assert names(tmp_path) == ["checkpoint-9", "checkpoint-10", "checkpoint-11"]
    save(tmp_path, 12, limit=2)
    assert names(tmp_path) == ["checkpoint-11", "checkpoint-12"]
    save(tmp_path, 13, limit=None)
    assert len(names(tmp_path)) == 3


def shorten(file: Path) -> None:
    os.truncate(file, SIZE - 1)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[SIZE // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("name", ["model.safetensors", "rng_state_1.pth"])
@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (Path.unlink, "No such file"),
        (shorten, "has 199999 bytes, and 200000 were written"),
        (flip_a_bit, "its digest has changed"),
    ],
)
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_damage_is_found(tmp_path: Path, name: str, damage: Callable[[Path], None], told: str, processes: int) -> None:
    folder = save(tmp_path, 5)
    whole = manifest.read(folder)
    assert whole is not None

    def faults() -> list[str]:
        found = [manifest.changed(folder, whole, rank, processes) for rank in range(processes)]
        return [fault for fault in (manifest.missing(folder, whole), *found) if fault]

    assert faults() == []
    damage(folder / name)
    assert any(name in fault and told in fault for fault in faults())


def test_a_checkpoint_whose_files_are_cut_short_is_none(tmp_path: Path) -> None:
    save(tmp_path, 4)
    shorten(save(tmp_path, 5) / "rng_state_1.pth")
    assert [folder.name for folder in checkpoints.complete_checkpoints(tmp_path)] == ["checkpoint-4"]
    (tmp_path / "checkpoint-4" / manifest.NAME).write_text("{")
    assert checkpoints.complete_checkpoints(tmp_path) == []


def test_a_full_disk_says_so_and_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 4)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        UserError, match=r"checkpoint-5: the checkpoint cannot be saved: No space left on device\. Make"
    ):
        save(tmp_path, 5)
    assert [folder.name for folder in checkpoints.complete_checkpoints(tmp_path)] == ["checkpoint-4"]


def test_kill_9_at_any_moment_loses_no_committed_checkpoint(tmp_path: Path) -> None:
    """A child commits checkpoint after checkpoint and says so in a file; it is killed 100 times."""
    moments = random.Random(7)  # noqa: S311
    said = tmp_path / "committed"
    said.write_text("0")
    output = tmp_path / "out"
    output.mkdir()
    interrupted = 0
    for _ in range(100):
        last = int(said.read_text())
        child = os.fork()
        if child == 0:
            try:
                for step in range(last + 1, last + 1000):
                    save(output, step)
                    (tmp_path / "next").write_text(str(step))
                    (tmp_path / "next").rename(said)
            finally:
                os._exit(1)
        while int(said.read_text()) == last:
            time.sleep(0.001)
        time.sleep(moments.random() / 50)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        interrupted += any((output / checkpoints.ASIDE).iterdir())
        whole = checkpoints.complete_checkpoints(output)
        assert whole == checkpoints.folders(output), "a folder that is no checkpoint has the name of one"
        assert int(whole[-1].name.partition("-")[2]) >= int(said.read_text())
        for folder in whole:
            found = manifest.read(folder)
            assert found is not None
            assert not any(manifest.changed(folder, found, rank, RANKS) for rank in range(RANKS))
        attempt = checkpoints.Attempt("r", 1)
        checkpoints.claim(output, whole[-1], attempt)
        assert not (output / checkpoints.ASIDE).exists()
    assert interrupted > 30, "most of the time is spent in saving"


TRAIN = {"save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "linear"}


@pytest.mark.parametrize(("file", "damage"), [("optimizer.pt", flip_a_bit), matrix("rng_state_1.pth", Path.unlink)])
def test_a_restart_passes_over_what_is_broken_and_says_so(
    run_job: Runner, file: str, damage: Callable[[Path], None]
) -> None:
    """Two processes, DDP: the losses are those of the run that nothing interrupted."""
    name = f"broken-{file}"
    changes = {"nproc": 2, "train": TRAIN}
    first: Finished = run_job(name, **changes, env={"SLURM_JOB_ID": "7"})
    assert first.code == 0, first.stderr
    losses = first.logged("loss")
    damage(first.output_dir / "checkpoint-4" / file)
    again = run_job(name, **changes, env={"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "1"})
    assert again.code == 0, again.stderr
    assert f"resuming from out/{name}/checkpoint-2" in again.stdout
    assert again.logged("loss") == losses
    if damage is flip_a_bit:
        assert (
            f"out/{name}/checkpoint-4 cannot be resumed and is passed over: optimizer.pt is not as it was"
            in again.stdout
        )
    (aside,) = again.output_dir.glob("previous-*")
    assert (aside / "checkpoint-4" / "trainer_state.json").exists(), "nothing is lost"


def test_what_was_asked_for_and_is_broken_is_refused(run_job: Runner) -> None:
    found = run_job("broken-asked", train=TRAIN | {"max_steps": 2})
    assert found.code == 0, found.stderr
    flip_a_bit(found.output_dir / "checkpoint-2" / "optimizer.pt")
    for asked, told in (
        ({"train": TRAIN | {"resume_from_checkpoint": True}}, "holds no complete checkpoint"),
        (
            {"train": TRAIN, "resume": "out/broken-asked/checkpoint-2"},
            "checkpoint-2 cannot be resumed; the log says why",
        ),
    ):
        again = run_job("broken-asked", **asked)
        assert again.code == 2
        assert "checkpoint-2 cannot be resumed and is passed over: optimizer.pt" in again.stdout
        assert told in again.stderr
        assert names(again.output_dir) == ["checkpoint-2"], "nothing was moved"


def test_weights_without_optimizer_state_are_no_place_to_go_on_from(run_job: Runner) -> None:
    """Transformers would go on with a fresh optimizer, without a word."""
    train = TRAIN | {"save_only_model": True}
    found = run_job("weights-alone", train=train)
    (found.output_dir / "provenance.json").unlink()  # as if it had been killed at its end
    again = run_job("weights-alone", train=train)
    assert "checkpoint-4 cannot be resumed and is passed over: it holds weights without optimizer" in again.stdout
    assert "starting afresh" in again.stdout
