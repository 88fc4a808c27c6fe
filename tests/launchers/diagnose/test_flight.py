"""The flight recorder's dumps: real ones (gloo writes the same as NCCL), and what somebody else may have put there."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.diagnose import flight

DUMPS = Path(__file__).parent / "dumps"


def write(folder: Path, rank: int, *calls: tuple[str, str], ranks: str = "[0, 1, 2]", as_json: bool = False) -> None:
    """A dump whose collectives are `calls`: name and state."""
    frames = [("/venv/torch/x.py", 1, "all_reduce"), ("train.py", 7, "step")]
    entries = [
        {
            "process_group": ["0", "default_pg"],
            "collective_seq_id": number,
            "profiling_name": f"nccl:{name}",
            "input_sizes": [[8]],
            "state": state,
            "is_p2p": False,
            "frames": [{"filename": file, "line": line, "name": name} for file, line, name in frames],
        }
        for number, (name, state) in enumerate(calls, 1)
    ]
    dump: Any = {
        "version": "2.10",
        "pg_config": {"0": {"name": "0", "desc": "default_pg", "ranks": ranks}},
        "entries": entries,
    }
    data = json.dumps(dump).encode() if as_json else pickle.dumps(dump, protocol=2)
    (folder / f"fr_rank_{rank}").write_bytes(data)


def report(folder: Path) -> str:
    return "\n".join(flight.report(flight.dumps(folder)))


def test_real_dumps_name_the_rank_that_did_not_come() -> None:
    """Provoked by `python -m bench.diagnose.provoke collective-timeout`."""
    assert set(flight.dumps(DUMPS)) == {0, 1}
    said = report(DUMPS)
    assert "gloo:all_reduce [[8]]" in said
    assert "ranks that did not come to it: [1], of 2" in said
    assert "hangs.py" in said


@pytest.mark.parametrize("as_json", [False, True])
def test_one_rank_is_behind(tmp_path: Path, as_json: bool) -> None:
    done, open_ = ("all_reduce", "completed"), ("all_gather", "started")
    write(tmp_path, 0, done, open_, as_json=as_json)
    write(tmp_path, 1, done, open_, as_json=as_json)
    write(tmp_path, 2, done, as_json=as_json)
    assert report(tmp_path) == (
        "flight recorder: collective 2 of group 0 did not end: nccl:all_gather [[8]]\n"
        "    ranks that did not come to it: [2], of 3\n"
        "    rank 2 last came to number 1\n"
        "    called at train.py:7 (step)"
    )


def test_ranks_that_went_different_ways(tmp_path: Path) -> None:
    write(tmp_path, 0, ("all_reduce", "started"), ranks="[0, 1]")
    write(tmp_path, 1, ("broadcast", "started"), ranks="[0, 1]")
    said = report(tmp_path)
    assert "ranks [0]: nccl:all_reduce [[8]]; ranks [1]: nccl:broadcast [[8]]" in said
    assert "different collectives" in said


def test_all_came_and_a_rank_without_a_dump(tmp_path: Path) -> None:
    write(tmp_path, 0, ("all_reduce", "started"), ranks="[0, 1]")
    assert "ranks that left no dump: [1]" in report(tmp_path)
    write(tmp_path, 1, ("all_reduce", "started"), ranks="[0, 1]")
    assert "every rank came to it" in report(tmp_path)


def test_nothing_is_said_of_collectives_that_ended(tmp_path: Path) -> None:
    write(tmp_path, 0, ("all_reduce", "completed"))
    assert report(tmp_path) == ""


def test_memory_does_not_grow_with_the_ranks(tmp_path: Path) -> None:
    """Of each dump what is compared stays, and once for all ranks that did the same."""
    write(tmp_path, 0, *[("all_reduce", "completed")] * 1000, ("all_gather", "started"), ranks="[0, 1]")
    paths = dict.fromkeys(range(12), tmp_path / "fr_rank_0")

    def peak(ranks: int) -> int:
        tracemalloc.start()
        said = flight.report({rank: paths[rank] for rank in range(ranks)})
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert said[0].startswith("flight recorder: collective 1001 of group 0 did not end")
        return most

    assert peak(12) < 1.5 * peak(2)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (exec, ("raise SystemExit('run')",))


JUNK = {
    "code": pickle.dumps(Evil()),
    "code within": pickle.dumps({"entries": [Evil()]}),
    "empty": b"",
    "junk": b"junk",
    "half a JSON": b"{",
    "a list": pickle.dumps([1]),
    "no entries": pickle.dumps({}),
}


@pytest.mark.parametrize("data", JUNK.values(), ids=JUNK)
def test_a_pickle_runs_nothing(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "fr_rank_0").write_bytes(data)
    assert report(tmp_path).startswith("fr_rank_0: not a dump of the flight recorder (")


def test_entries_of_any_shape(tmp_path: Path) -> None:
    odd: list[Any] = [None, 1, {}, {"process_group": None}, {"process_group": ["0"], "collective_seq_id": "x"}]
    (tmp_path / "fr_rank_0").write_bytes(pickle.dumps({"entries": odd, "pg_config": [1]}))
    assert report(tmp_path) == ""
