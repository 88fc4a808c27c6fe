"""Which checkpoint a run starts from, and that no run takes another's for its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from alignlaunch.train.config import Data, TrainConfig
from alignlaunch.train.errors import UserError
from alignlaunch.train.outputs import checkpoints
from alignlaunch.train.outputs import start as choice


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two complete checkpoints, then one without its end and one that says it is incomplete."""
    for step in (5, 10, 20, 100):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        if step != 20:
            (folder / "trainer_state.json").write_text("{}")
    (tmp_path / "checkpoint-100" / checkpoints.INCOMPLETE).touch()
    return tmp_path


class Start(NamedTuple):
    resume: Path | None
    aside: Path | None


def start(
    output: Path, asked: Any, restarts: int, run_id: str, *, uncounted: bool = False, inputs: Sequence[str] = ()
) -> Start:
    """asked: the job's `train.resume_from_checkpoint`; None: `resume: never`."""
    attempt = checkpoints.Attempt(run_id, restarts, uncounted)
    args = SimpleNamespace(output_dir=str(output), resume_from_checkpoint=asked)
    resume = "never" if asked is None else "auto"
    job = TrainConfig(name="a", stage="sft", model="m", data=Data(train=["d"]), output_dir=str(output), resume=resume)
    found = next(iter(choice.candidates(job, args, attempt)), None)
    return Start(found, checkpoints.claim(output, found, attempt, inputs))


def settle(*arguments: Any, **options: Any) -> Path | None:
    """The checkpoint to resume from."""
    return start(*arguments, **options).resume


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("checkpoint-*")}


def test_a_restarted_run_goes_on_from_its_own_last_complete_checkpoint(output: Path) -> None:
    (output / checkpoints.OWNER).write_text("mine")
    assert settle(output, None, 1, "mine") == output / "checkpoint-10"
    assert settle(output, str(output / "checkpoint-5"), 1, "mine") == output / "checkpoint-10"


def test_a_pod_that_takes_anothers_place_goes_on_from_there(output: Path) -> None:
    """Its restart is counted nowhere: only the run's own name tells."""
    (output / checkpoints.OWNER).write_text("mine")
    assert settle(output, None, 0, "mine", uncounted=True) == output / "checkpoint-10"
    assert settle(output, None, 0, "another", uncounted=True) is None
    assert settle(output, True, 0, "another", uncounted=True) is None, "restarted before its first checkpoint"


@pytest.mark.parametrize("owner", [None, "theirs"])
def test_a_restart_never_resumes_from_another_runs_checkpoint(output: Path, owner: str | None) -> None:
    """The first attempt was preempted before it came to look at the folder."""
    if owner:
        (output / checkpoints.OWNER).write_text(owner)
    assert settle(output, None, 1, "mine") is None
    assert settle(output, None, 2, "mine") is None


def test_a_run_that_starts_resumes_where_it_is_asked_to(output: Path) -> None:
    assert settle(output, True, 0, "mine") == output / "checkpoint-10"
    assert names(output) == {"checkpoint-5", "checkpoint-10"}
    assert settle(output, str(output / "checkpoint-5"), 0, "mine") == output / "checkpoint-5"
    assert names(output) == {"checkpoint-5"}, "a restart would go on from a later checkpoint than the one asked for"


@pytest.mark.parametrize("name", ["checkpoint-20", "checkpoint-100", "checkpoint-7", "."])
def test_an_incomplete_one_is_refused(output: Path, name: str) -> None:
    for file in ("trainer_state.json", "provenance.json"):  # the final output, which has no optimizer's state
        (output / file).write_text("{}")
    with pytest.raises(UserError, match="not a complete checkpoint"):
        settle(output, str(output / name), 0, "mine")


def test_one_from_which_two_attempts_failed_comes_last(output: Path) -> None:
    (output / checkpoints.OWNER).write_text("mine")
    for token in ("a", "a", "b"):  # two ranks of one attempt, and another attempt
        assert settle(output, None, 1, "mine") == output / "checkpoint-10"
        checkpoints.record_failed_start(output / "checkpoint-10", token)
    assert settle(output, None, 1, "mine") == output / "checkpoint-5"


def test_nothing_to_resume_from(tmp_path: Path) -> None:
    assert settle(tmp_path, None, 3, "mine") is None
    assert settle(tmp_path, True, 3, "mine") is None


def test_a_fresh_run_moves_old_ones_away_and_loses_none(output: Path) -> None:
    everything = names(output)
    assert settle(output, None, 0, "mine") is None
    assert names(output) == set()
    (aside,) = output.glob("previous-*")
    assert names(aside) == everything
    assert settle(output, None, 0, "mine") is None
    assert list(output.glob("previous-*")) == [aside]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """What a run leaves that has ended, beside a file of the user's."""
    for name in (
        "model.safetensors",
        "adapter_config.json",
        "provenance.json",
        "eval.json",
        "metrics.jsonl",
        "mine.md",
    ):
        (tmp_path / name).write_text(name)
    (tmp_path / checkpoints.OWNER).write_text("theirs")
    return tmp_path


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()} - {checkpoints.OWNER}


def test_a_fresh_run_sets_an_earlier_ones_results_aside_together(finished: Path) -> None:
    """If it is cancelled, nobody takes them for its own."""
    results = left(finished) - {"mine.md"}
    aside = start(finished, None, 0, "ours").aside
    assert left(finished) == {"mine.md"}
    assert aside is not None
    assert left(aside) == results


def test_a_resumed_run_keeps_the_metrics_that_it_goes_on_with(finished: Path) -> None:
    (finished / "checkpoint-5").mkdir()
    (finished / "checkpoint-5/trainer_state.json").touch()
    assert settle(finished, True, 0, "ours") == finished / "checkpoint-5"
    assert left(finished) == {"mine.md", "metrics.jsonl"}


def test_a_restarted_run_keeps_its_own_results(finished: Path) -> None:
    everything = left(finished)
    assert start(finished, None, 1, "theirs") == (None, None)
    assert left(finished) == everything


def test_a_model_of_the_users_stays_where_it_is(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    everything = left(finished)
    assert start(finished, None, 0, "ours", inputs=[str(finished)]).aside is None, "it is trained further"
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.safetensors").touch()
    assert start(folder, None, 0, "ours").aside is None, "no run of ours was here"
    assert left(finished) == everything


def test_a_run_that_is_killed_each_time_before_it_saves_is_not_restarted_for_ever(output: Path) -> None:
    for restarts in range(checkpoints.MAX_STARTS):
        checkpoints.record_start(output, checkpoints.Attempt("a", restarts))
        checkpoints.claim(output, output / "checkpoint-10", checkpoints.Attempt("a", restarts))
    with pytest.raises(UserError, match="5 attempts of this run have ended before they saved a checkpoint"):
        checkpoints.record_start(output, checkpoints.Attempt("a", 5))
    checkpoints.record_start(output, checkpoints.Attempt("b", 0))  # submitted again


def test_what_another_user_may_have_written_is_not_unpickled(tmp_path: Path) -> None:
    """DeepSpeed would run the code in it. What a file system shows of every file is no fault of one."""
    own, folder = tmp_path / checkpoints.OWNER, tmp_path / "checkpoint-5"
    file = folder / "global_step5/bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt"
    file.parent.mkdir(parents=True)
    for path in (own, file):
        path.touch(mode=0o644)
    assert checkpoints.foreign(folder, own) == ""
    file.chmod(0o664)  # a group that shares its work
    assert checkpoints.foreign(folder, own) == ""
    file.chmod(0o666)
    assert checkpoints.foreign(folder, own) == f"{file} may be written by everybody"
    own.chmod(0o666)  # a file system without modes, or no umask: ours would be the same
    assert checkpoints.foreign(folder, own) == ""
    if os.geteuid() == 0:
        os.chown(file, 12345, 12345)
        assert checkpoints.foreign(folder, own) == f"{file} belongs to user 12345"
        os.chown(own, 12345, 12345)  # as where NFS maps root to nobody
        assert checkpoints.foreign(folder, own) == ""
