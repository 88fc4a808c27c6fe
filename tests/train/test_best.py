"""The best of several trained folders: what is chosen, what is left out, and that a run's decision stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alignlaunch.train import best
from alignlaunch.train.config import Choice
from alignlaunch.train.errors import UserError


def trained(folder: Path, *records: object, ended: bool = True) -> str:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records) + '{"half')
    if ended:
        (folder / "provenance.json").write_text("{}")
    return str(folder)


def choice(tmp_path: Path, metric: str, *among: str) -> Choice:
    return Choice(link=str(tmp_path / "out/sft.best"), metric=metric, among=list(among))


def test_the_last_value_decides(tmp_path: Path) -> None:
    low = trained(tmp_path / "out/a", {"step": 1, "eval_loss": 0.1}, {"step": 2, "eval_loss": 0.9}, {"loss": 0.0})
    high = trained(tmp_path / "out/b", {"step": 1, "eval_loss": 1.5}, {"step": 2, "eval_loss": 0.5})
    said: list[str] = []
    best.settle([choice(tmp_path, "eval_loss", low, high)], None, said.append)
    link = tmp_path / "out/sft.best"
    assert str(link.readlink()) == "b", "relative, so that the folder may be moved"
    assert "is " + high in said[-1]


def test_accuracies_and_rewards_should_be_high(tmp_path: Path) -> None:
    for name, value in (("a", 0.2), ("b", 0.8)):
        trained(tmp_path / "out" / name, {"eval_rewards/accuracies": value})
    among = [str(tmp_path / "out/a"), str(tmp_path / "out/b")]
    best.settle([choice(tmp_path, "eval_rewards/accuracies", *among)], None, print)
    assert (tmp_path / "out/sft.best").resolve().name == "b"


def test_what_failed_or_has_no_such_metric_is_left_out_with_words(tmp_path: Path) -> None:
    failed = trained(tmp_path / "out/a", {"eval_loss": 0.0}, ended=False)
    other = trained(tmp_path / "out/b", {"loss": 0.0}, {"eval_loss": float("nan")}, [1], {"eval_loss": "low"})
    good = trained(tmp_path / "out/c", {"eval_loss": 3.0})
    said: list[str] = []
    best.settle([choice(tmp_path, "eval_loss", failed, other, good, str(tmp_path / "gone"))], None, said.append)
    assert (tmp_path / "out/sft.best").resolve().name == "c"
    assert sum("is left out" in line for line in said) == 3
    with pytest.raises(UserError, match="none has ended with a eval_loss"):
        best.settle([choice(tmp_path, "eval_loss", failed, other)], None, said.append)


def test_a_later_attempt_keeps_the_decision(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    among = [trained(tmp_path / "out/a", {"eval_loss": 1.0}), trained(tmp_path / "out/b", {"eval_loss": 2.0})]
    wanted = [choice(tmp_path, "eval_loss", *among)]
    best.settle(wanted, str(run), print)
    (tmp_path / "out/b/metrics.jsonl").write_text('{"eval_loss": 0.0}\n')  # trained again meanwhile
    best.settle(wanted, str(run), print)
    assert (tmp_path / "out/sft.best").resolve().name == "a"
    assert json.loads((run / "chosen.json").read_text()) == {wanted[0].link: among[0]}
    best.settle(wanted, None, print)
    assert (tmp_path / "out/sft.best").resolve().name == "b"


def test_something_in_the_links_place_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "out/sft.best").mkdir(parents=True)
    with pytest.raises(UserError, match="something is there"):
        best.settle([choice(tmp_path, "loss", trained(tmp_path / "out/a", {"loss": 1.0}))], None, print)
