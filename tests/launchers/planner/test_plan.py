"""`alignlaunch plan` and the refusal of what cannot fit, from the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alignlaunch.launchers.job import jobfile
from alignlaunch.launchers.planner import communication, memory, plan, saves, strategies
from alignlaunch.launchers.planner.architecture import model
from alignlaunch.launchers.planner.communication import Bandwidths
from alignlaunch.launchers.planner.memory import GIB, Setup
from alignlaunch.launchers.planner.strategies import Limits
from tests.conftest import Cli

#: Llama-2-7B, whose config.json is all that a plan needs.
LLAMA_7B = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "intermediate_size": 11008,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}
JOB = """name: big
stage: {stage}
model: ./model
data: {{train: [data.jsonl]}}
nproc_per_node: 8
zero: {zero}
lora: {lora}
train: {{per_device_train_batch_size: 1, max_length: 2048, gradient_accumulation_steps: 4, max_steps: 100}}
"""
HAND = ("--params", "32B", "--hidden", "5120", "--layers", "64", "--vocab", "152064", "--kv-heads", "8")


@pytest.fixture
def big(tmp_path: Path) -> Path:
    return write(tmp_path)


def write(folder: Path, *, stage: str = "sft", zero: int = 0, lora: str = "null", **profile: Any) -> Path:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "config.json").write_text(json.dumps(LLAMA_7B))
    (folder / "clusters").mkdir(exist_ok=True)
    (folder / "clusters" / "lab.yaml").write_text(json.dumps({"gpu_memory_gib": 80, **profile}))
    path = folder / "job.yaml"
    path.write_text(JOB.format(stage=stage, zero=zero, lora=lora))
    return path


def setup(path: Path, *overrides: str) -> Setup:
    return plan.of(jobfile.load(path, overrides, "lab")).setup


def test_a_full_fine_tune_of_7b_without_zero_does_not_fit_80_gib_and_something_does(cli: Cli, big: Path) -> None:
    done = cli("plan", big, "--cluster", "lab", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["fits"], found["parameters"]) == (1, False, 6_738_415_616)
    for changes in found["remedies"]:
        overrides = [part for change in changes for part in ("--set", change)]
        again = cli("plan", big, "--cluster", "lab", "--json", *overrides)
        assert (again.returncode, json.loads(again.stdout)["fits"]) == (0, True), changes


def test_the_text_answers(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, zero=3, gpu_bandwidth_gbs=450)
    done = cli("plan", path, "--cluster", "lab")
    assert done.returncode == 0
    for said in (
        "fits: yes",
        "largest micro-batch: ",
        "cheapest that fits",
        "the documents advise ≤ 13B",
        "s if nothing",
    ):
        assert said in done.stdout
    assert "precision: mixed, 16 bytes" in done.stdout
    assert "at most 100 steps" in done.stdout


def test_what_a_checkpoint_of_7b_takes_and_how_often_to_save(cli: Cli, tmp_path: Path) -> None:
    """Weights in bf16, and 12 bytes of optimizer state for each parameter, to a storage of 1 GB/s."""
    path = write(tmp_path, zero=3, storage_bandwidth_gbs=1)
    found = json.loads(cli("plan", path, "--cluster", "lab", "--json", "--set", "nnodes=4").stdout)["estimate"]
    assert found["checkpoint_bytes"] == 14 * 6_738_415_616
    assert found["save_seconds"] == pytest.approx(94.3, abs=0.1)
    assert found["save_every_seconds"] == pytest.approx((2 * 94.34 * saves.NODE_MTBF / 4) ** 0.5, rel=1e-3)
    adapter = cli("plan", path, "--cluster", "lab", "--set", "lora.r=8")
    assert "estimate: a checkpoint of 0.3 GiB in 0 s" in adapter.stdout


def test_a_time_that_is_too_short_for_a_save_is_told(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, zero=3, storage_bandwidth_gbs=0.2)
    said = "slurm.signal_seconds: 300 s before the time limit are not enough for a save of 472 s"
    planned = cli("plan", path, "--cluster", "lab", "--set", "time='08:00:00'")
    assert f"warning: {said}" in planned.stdout
    assert "set slurm.signal_seconds=720" in planned.stdout
    longer = cli("plan", path, "--cluster", "lab", "--set", "slurm.signal_seconds=720")
    assert "not enough" not in longer.stdout
    unchecked = ("--cluster", "lab", "--no-data-check", "--dry-run", "--set", "lora.r=8", "--set", "lora.alpha=8")
    small = write(tmp_path, zero=3, storage_bandwidth_gbs=0.0001)
    assert "warning: slurm.signal_seconds: 300 s" in cli("slurm", small, *unchecked).stderr
    assert "signal_seconds" not in cli("local", small, *unchecked).stderr


def test_terms_add_up_and_the_peak_is_the_highest_phase(cli: Cli, big: Path) -> None:
    found = json.loads(cli("plan", big, "--cluster", "lab", "--json").stdout)
    totals = [sum(phase["terms"].values()) for phase in found["phases"]]
    assert totals == pytest.approx([phase["total"] for phase in found["phases"]])
    assert found["as_written"]["peak"] == pytest.approx(max(totals))
    keys = {(a["tuning"], a["strategy"], a["gradient_checkpointing"]) for a in found["alternatives"]}
    assert len(keys) == len(found["alternatives"]) == 2 * (8 + 8 + 5)


def test_the_largest_micro_batch_fits_and_the_next_does_not(tmp_path: Path) -> None:
    limits = Limits(80 * GIB, None)
    for stage, lora in (("sft", "{r: 8}"), ("orpo", "{r: 8}"), ("rm", "{r: 8}")):
        one = setup(write(tmp_path, stage=stage, zero=2, lora=lora))
        largest = strategies.largest_micro_batch(one, limits)
        assert largest
        each = one.sequences_per_sample
        assert limits.fit(replace(one, sequences=largest * each))
        assert not limits.fit(replace(one, sequences=(largest + 1) * each))


def test_memory_grows_with_the_batch_and_shrinks_with_sharding_and_checkpointing(big: Path) -> None:
    one = setup(big)

    def peak(**changed: Any) -> float:
        return memory.peak(replace(one, **changed)).total

    assert peak(sequences=1) < peak(sequences=2) < peak(sequences=4)
    assert peak(checkpointing=True) < peak(checkpointing=False)
    totals = [memory.peak(strategies.sharded(one, zero, "none")).total for zero in (0, 1, 2, 3)]
    assert totals == sorted(totals, reverse=True)


def test_a_reference_model_costs_a_full_fine_tune_a_copy_and_an_adapter_nothing(tmp_path: Path) -> None:
    live = "train.precompute_ref_log_probs=false"
    full = setup(write(tmp_path, stage="dpo"), live)
    term = "reference, rewards"
    assert memory.peak(full).terms[term] == 4 * full.tuning.count
    assert memory.peak(setup(write(tmp_path, stage="dpo", lora="{r: 8}"), live)).terms[term] == 0
    sharded = setup(write(tmp_path, stage="dpo", zero=3), live)
    assert memory.peak(sharded).terms[term] == 2 * sharded.tuning.count / 8


@pytest.mark.parametrize(
    ("settings", "is_kept"),
    [
        (["train.max_steps=-1"], True),  # two epochs, dpo's default
        (["train.max_steps=-1", "train.num_train_epochs=1"], False),
        (["train.max_steps=-1", "train.sync_ref_model=true"], False),
        (["train.precompute_ref_log_probs=true"], True),
        (["train.max_steps=1000"], False),  # of data of unknown size
        (["train.max_steps=1000", "data.max_train_samples=1000"], True),
        (["train.max_steps=1", "data.max_train_samples=1000"], False),
    ],
)
def test_a_reference_that_is_computed_before_training_is_in_no_memory(
    settings: list[str], is_kept: bool, tmp_path: Path
) -> None:
    reference = memory.peak(setup(write(tmp_path, stage="dpo"), *settings)).terms["reference, rewards"]
    assert (reference == 0) == is_kept


def test_safe_dpo_holds_reward_models_only_where_they_score_live(tmp_path: Path) -> None:
    path = write(tmp_path, stage="safe_dpo", lora="{r: 8}")
    judges = ("train.helpful_reward_model=a/rm", "train.harmless_reward_model=b/rm")
    term = "reference, rewards"
    assert memory.peak(setup(path, *judges)).terms[term] == 0
    live = plan.of(jobfile.load(path, ("train.scores=live", *judges), "lab"))
    score_models = sum(live.setup.rewards)
    assert len(live.setup.rewards) == 2
    assert memory.peak(live.setup).terms[term] == 2 * score_models
    assert sum("taken to be as large" in note for note in live.notes) == 2


def test_the_papers_communication(big: Path) -> None:
    one = replace(setup(big), accumulation=1)
    size = one.tuning.count
    volumes = {zero: communication.volume(strategies.sharded(one, zero, "none")).network for zero in (0, 1, 2, 3)}
    assert volumes == {0: 2 * size * 4, 1: 2 * size * 2, 2: 2 * size * 2, 3: 3 * size * 2}
    speeds = Bandwidths(gpu=100e9, network=50e9, host=None)
    assert communication.seconds(one, speeds) == volumes[0] / 100e9
    assert communication.seconds(replace(one, nnodes=2), speeds) == volumes[0] / 50e9
    assert communication.seconds(strategies.sharded(one, 2, "optimizer"), speeds) is None
    assert communication.volume(replace(one, nproc_per_node=1)).network == 0


def test_the_documents_32b_by_hand(cli: Cli, big: Path) -> None:
    """≈ 32B: their ZeRO-2 with offload wants 1.5 TB of host memory; ZeRO-3 fits without."""
    done = cli("plan", big, *HAND, "--gpu-memory", "80", "--host-memory", "2048", "--set", "zero=2")
    assert "the documents advise ≈ 32B: ZeRO-2 + optimizer offload" in done.stdout
    assert "1431 GiB of host memory" in done.stdout
    assert "ZeRO-3 fits without" in done.stdout
    assert done.returncode == 1
    found = cli("plan", big, *HAND, "--precision", "pure-bf16", "--json", "--set", "zero=2").stdout
    step = next(phase for phase in json.loads(found)["phases"] if phase["name"] == "optimizer step")
    states = sum(step["terms"][term] for term in ("weights", "gradients", "optimizer"))
    assert states == pytest.approx(88e9, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--params", "many", "--hidden", "8", "--layers", "1", "--vocab", "9"), "with K, M, B or T is expected"),
        (("--params", "32B"), "`hidden_size`"),
        (("--hidden", "5120"), "--params is missing"),
        (("--set", "model=./nowhere"), "neither a folder here nor in"),
        (("--gpu-memory", "0"), "--gpu-memory"),
        (("--precision", "fp8"), "--precision"),
    ],
)
def test_bad_input(cli: Cli, big: Path, arguments: tuple[str, ...], said: str) -> None:
    done = cli("plan", big, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_step_that_starts_from_another_steps_output_has_its_size(cli: Cli, big: Path) -> None:
    chain = big.parent / "chain.yaml"
    chain.write_text(
        "name: chain\njobs:\n  sft: {job: job.yaml, name: sft, output_dir: out/sft}\n"
        "  dpo: {job: job.yaml, name: dpo, stage: dpo, model: '${sft.output}', output_dir: out/dpo}\n"
    )
    found = json.loads(cli("plan", chain, "--cluster", "lab", "--json").stdout)
    assert [one["parameters"] for one in found] == [6_738_415_616] * 2


def test_a_submission_that_cannot_fit_is_refused_before_anything_is_written(cli: Cli, big: Path) -> None:
    refused = cli("slurm", big, "--cluster", "lab", "--no-data-check")
    assert refused.returncode == 2
    assert "memory: DDP takes at least" in refused.stderr
    assert "remedy: --set zero=" in refused.stderr
    assert not (big.parent / "launch").exists()
    skipped = cli("slurm", big, "--cluster", "lab", "--no-data-check", "--no-plan")
    assert "memory:" not in skipped.stderr


@pytest.mark.parametrize(("gib", "code", "fits", "said"), [(64, 1, False, "no, "), (4096, 0, None, "not known")])
def test_where_only_the_hosts_memory_is_known(
    cli: Cli, tmp_path: Path, gib: int, code: int, fits: bool | None, said: str
) -> None:
    """Text, JSON and exit code say the same: too little is too little, and enough does not tell of the GPU."""
    command = ("plan", write(tmp_path, zero=2), "--set", "offload=optimizer", "--host-memory", str(gib))
    text, as_json = cli(*command), cli(*command, "--json")
    found = json.loads(as_json.stdout)
    assert (text.returncode, as_json.returncode, found["fits"], found["as_written"]["fits"]) == (code, code, fits, fits)
    (line,) = [line for line in text.stdout.splitlines() if line.startswith("fits: ")]
    assert line.startswith(f"fits: {said}")
    assert ("GiB short on a host" in line) is (fits is False)
    assert bool(found["remedies"]) is ("would fit on a host: " in text.stdout) is (fits is False)


def test_host_memory_counts_too(tmp_path: Path) -> None:
    loaded = jobfile.load(write(tmp_path, zero=2, host_memory_gib=64), ("offload=optimizer",), "lab")
    assert "on each node for what is offloaded" in str(plan.certain_failure(plan.of(loaded)))


@pytest.mark.parametrize("overrides", [("lora={r: 8}",), ("zero=3",)])
def test_what_may_fit_is_let_through(big: Path, overrides: tuple[str, ...]) -> None:
    assert plan.certain_failure(plan.of(jobfile.load(big, overrides, "lab"))) is None


def test_nothing_is_said_where_no_memory_is_known_and_one_line_where_the_model_is_not(cli: Cli, big: Path) -> None:
    assert plan.certain_failure(plan.of(jobfile.load(big))) is None
    (big.parent / "model" / "config.json").unlink()
    with pytest.raises(model.UnknownModelError):
        plan.certain_failure(plan.of(jobfile.load(big, (), "lab")))
    done = cli("slurm", big, "--cluster", "lab", "--no-data-check")
    assert sum("memory: not planned" in line for line in done.stderr.splitlines()) == 1


def test_a_picture_needs_matplotlib(cli: Cli, big: Path) -> None:
    done = cli("plan", big, "--cluster", "lab", "--png", "plan.png")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        assert done.returncode == 2
        assert "pip install 'alignlaunch[plot]'" in done.stderr
    else:
        assert (big.parent / "plan.png").read_bytes().startswith(b"\x89PNG")
