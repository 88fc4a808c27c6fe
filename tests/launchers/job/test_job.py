"""The job file's rules: every broken one is reported at once, with place and remedy; what is right is filled in."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from alignlaunch.launchers.errors import JobFileError, UsageError
from alignlaunch.launchers.job import defaults, job, jobfile, rules, yamlfile
from alignlaunch.launchers.job.cluster import Cluster
from alignlaunch.launchers.job.spec import JobSpec
from alignlaunch.launchers.render import render
from tests.conftest import MINIMAL

EXAMPLE = Path(__file__).parents[2] / "goldens" / "jobs" / "qwen3-orpo.yaml"


def write(folder: Path, text: str = MINIMAL, **more: Any) -> Path:
    path = folder / "job.yaml"
    path.write_text(text + "".join(f"{key}: {json.dumps(value)}\n" for key, value in more.items()))
    return path


def problems(path: Path, *overrides: str, cluster: str | None = None) -> list[str]:
    """ "place key rule" of every problem, places without the folder."""
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path, overrides, cluster)
    assert all(problem.remedy for problem in caught.value.problems)
    return [f"{p.place.removeprefix(f'{path.parent}/')} {p.key} {p.rule}" for p in caught.value.problems]


def problem(path: Path, *overrides: str) -> tuple[str, str]:
    """(rule, remedy) of the one problem there is."""
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path, overrides)
    (only,) = caught.value.problems
    return only.rule, only.remedy


def test_all_problems_at_once_in_the_order_of_lines(tmp_path: Path) -> None:
    text = """\
name: "a $(touch x)"
stage: orpo
model: ""
data: {train: [], validaton: [x]}
nnodes: -1
nproc_per_node: 1.5
zero: 7
launcher: mpirun
train:
  learning_rate: fast
  max_stesp: 3
  output_dirr: x
env: {RANK: "0", "A B": x, HF_TOKEN: hf_abc}
slurm: {extra: ["--comment=a b"]}
"""
    found = problems(write(tmp_path, text))
    assert [line.split()[:2] for line in found] == [
        ["job.yaml:1:7", "name"],
        ["job.yaml:3:8", "model"],
        ["job.yaml:4:15", "data.train"],
        ["job.yaml:4:19", "data.validaton"],
        ["job.yaml:5:9", "nnodes"],
        ["job.yaml:6:17", "nproc_per_node"],
        ["job.yaml:7:7", "zero"],
        ["job.yaml:8:11", "launcher"],
        ["job.yaml:10:18", "train.learning_rate"],
        ["job.yaml:11:3", "train.max_stesp"],
        ["job.yaml:12:3", "train.output_dirr"],
        ["job.yaml:13:7", "env.RANK"],
        ["job.yaml:13:18", "env.A"],
        ["job.yaml:13:28", "env.HF_TOKEN"],
        ["job.yaml:14:17", "slurm.extra[0]"],
    ]


def test_the_message_has_place_key_value_rule_and_remedy(tmp_path: Path) -> None:
    path = write(tmp_path, nnodes=0)
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path)
    assert str(caught.value) == (
        f"{path}:5:9: nnodes = 0: expected `int` >= 1\n    remedy: for example `nnodes: 2`\n"
        "1 problem; nothing was written or submitted"
    )


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("nodes", "nnodes"),
        ("nproc", "nproc_per_node"),
        ("modle", "model"),
        ("ouput_dir", "output_dir"),
        ("sets", "secrets"),
    ],
)
def test_an_unknown_key_suggests_the_nearest(tmp_path: Path, wrong: str, right: str) -> None:
    assert problem(write(tmp_path, **{wrong: "x"})) == ("unknown key", f"did you mean `{right}`?")


def test_a_key_like_no_other_lists_them_all(tmp_path: Path) -> None:
    rule, remedy = problem(write(tmp_path, qqqqqq=1))
    assert rule == "unknown key"
    assert remedy == f"known keys here: {', '.join(sorted(f.name for f in msgspec.structs.fields(JobSpec)))}"


def test_missing_keys(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "train: {}\n"))
    assert found == [f"job.yaml:1:1 {key} this key is required" for key in ("name", "stage", "model", "data")]


@pytest.mark.parametrize("name", ["a b", "A", "-a", "a-", "1a", "a" * 51, "a\n", "../a", "$(id)", "`id`", "é", ""])
def test_names_that_a_scheduler_or_shell_would_choke_on(tmp_path: Path, name: str) -> None:
    rule, remedy = problem(write(tmp_path), f"name={json.dumps(name)}")
    assert "Lower-case letters" in rule
    assert remedy == 'for example `name: "qwen3-orpo"`'


@pytest.mark.parametrize("name", ["a", "a-1", "a" * 50])
def test_good_names(tmp_path: Path, name: str) -> None:
    assert jobfile.load(write(tmp_path), (f"name={name}",)).spec.name == name


def test_a_file_name_cannot_leave_the_comment_that_it_stands_in(tmp_path: Path) -> None:
    path = tmp_path / "job\ntouch evil\n.yaml"
    path.write_text(MINIMAL)
    with pytest.raises(UsageError, match="must be printable text"):
        jobfile.load(path)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("nnodes=-1", ">= 1"),
        ("nnodes=true", "int"),
        ("nnodes=two", "a number, or MIN:MAX"),
        ("nnodes=4:2", "the fewest nodes are more than the most"),
        ("nnodes=[2]", "int"),
        ("nproc_per_node=0", ">= 1"),
        ("data.max_train_samples=-5", ">= 1"),
        ("lora.r=0", ">= 1"),
        ("lora.dropout=-0.1", ">= 0"),
        ("lora.dropout=1", "< 1"),
        ("lora=8", "object"),
        ("lora.rank=8", "unknown key"),
        ("data=x", "object"),
        ("data.train=3", "array"),
        ("train=3", "object"),
        ("stage=ppo", "must be one of pt, sft, rm, dpo, orpo, safe_dpo"),
        ("offload=cpu", "must be one of none, optimizer, optimizer+param"),
        ("zero=4", "must be 0, 1, 2 or 3, or the path of a DeepSpeed JSON file"),
        ("zero=-1", "or the path of a DeepSpeed JSON file"),
        ("zero=2.0", "or the path of a DeepSpeed JSON file"),
        ("time=tomorrow", "HH:MM:SS"),
        ("time=[12]", "str"),
        ("env.A={b: 1}", "expected"),
        ("env=3", "object"),
        ("secrets=HF_TOKEN", "array"),
        ("secrets=[hf_abc-def]", "never by its value"),
        ("slurm.partition=a b", "no spaces"),
        ("slurm.partition=a\\\n#SBATCH --x", "no spaces"),
        ("slurm.extra=[--x=$HOME]", "without spaces"),
        ("slurm.extra=[-x]", "without spaces"),
        ("slurm.signal_seconds=-1", ">= 0"),
        ("train.learning_rate=-1", "must not be negative"),
        ("train.logging_steps=0", "must be more than 0"),
        ("train.hub_token=hf_abcdefghijk", "the job decides this by another key"),
        ('slurm.extra=["--exclusive", "--job-name=x"]', "alignlaunch decides this itself"),
        ("slurm.extra=[--arra=1-3]", "alignlaunch decides this itself"),
        ("slurm.extra=[--quiet]", "alignlaunch decides this itself"),
        ("slurm.extra=[--part=gpu]", "alignlaunch decides this itself"),
        ('secrets=["hf_abcdefghijk"]', "a secret is passed by its variable's name, never by its value"),
        ("env.my_pass=x", "looks like a secret, and this file is committed"),
        ("train.num_train_epochs=-1", "must be more than 0"),
        ("train.per_device_train_batch_size=0", "must be 1 or more"),
        ("train.gradient_accumulation_steps=-2", "must be 1 or more"),
        ("train.gradient_accumulation_steps=true", "a value of type int is expected"),
        ("train.bf16=1", "a value of type bool"),
        ("train.learning_rate=null", "a value of type float is expected"),
        ("train.eval_strategy=sometimes", "must be one of"),
        ("train.fsdp=full_shard", "the job decides this by another key"),
        ("train.dataset_text_field=x", "not to be set here"),
        ("train.beta=0.1", "not an argument of the sft trainer's config"),
    ],
)
def test_one_bad_value(tmp_path: Path, override: str, said: str) -> None:
    rule, _ = problem(write(tmp_path), override)
    assert said in rule


def test_an_unknown_trainer_argument_suggests_the_nearest(tmp_path: Path) -> None:
    assert problem(write(tmp_path), "train.lerning_rate=1e-4")[1] == "did you mean `learning_rate`?"


def test_set_wins_over_the_file_and_says_its_own_place(tmp_path: Path) -> None:
    path = write(tmp_path, nnodes=2, train={"max_steps": 5, "learning_rate": 1e-4})
    loaded = jobfile.load(path, ("nnodes=3", "train.max_steps=7", "data.train=[a, b]", "lora=null", "env.A=1.10"))
    assert (loaded.spec.nnodes, loaded.spec.data.train, loaded.spec.lora) == (3, ["a", "b"], None)
    assert (loaded.spec.train["max_steps"], loaded.spec.train["learning_rate"]) == (7, 1e-4)
    assert loaded.env == {"A": "1.10"}
    assert problems(path, "train.max_steps=many") == [
        "--set train.max_steps=many train.max_steps a value of type int is expected"
    ]
    # A whole map that was replaced: nothing in it stands on the file's lines any more.
    assert problems(path, "train={max_steps: many}")[0].startswith("--set train={max_steps: many} train.max_steps")


@pytest.mark.parametrize("override", ["nnodes", "=3", "a b=3", "a..b=3", "data.train[0]=x", "-x=1"])
def test_an_override_that_is_not_key_value(tmp_path: Path, override: str) -> None:
    with pytest.raises(UsageError, match="not KEY=VALUE"):
        jobfile.load(write(tmp_path), (override,))


@pytest.mark.parametrize("key", ["env.A", "model", "name"])
def test_an_override_that_is_not_utf_8(tmp_path: Path, key: str) -> None:
    """As Python hands on a byte of the command line that is none."""
    with pytest.raises(UsageError, match="not UTF-8 text"):
        jobfile.load(write(tmp_path), (f"{key}=caf\udce9",))


def test_effective_batch_size_and_paths(tmp_path: Path) -> None:
    train = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 5}
    loaded = jobfile.load(write(tmp_path, nnodes=2, nproc_per_node=4, train=train))
    assert (loaded.world_size, loaded.effective_batch_size) == (8, 3 * 8 * 5)
    assert loaded.dir == tmp_path
    assert loaded.spec.output_dir == "output/tiny"
    assert loaded.resolved()["model"] == "model"  # relative to the job file wherever it is read


def test_the_documents_comma_separated_folders(tmp_path: Path) -> None:
    loaded = jobfile.load(write(tmp_path), ("data.train=a, b,", "data.validation=c"))
    assert (loaded.spec.data.train, loaded.spec.data.validation) == (["a", "b"], ["c"])


def test_sources_with_weights_and_columns(tmp_path: Path) -> None:
    entries = [{"path": "a", "weight": 0.3, "columns": {"prompt": "q"}}, {"path": "b", "weight": 2}]
    keys = {"train": entries, "columns": {"prompt": "x"}, "validation_share": 0.05, "skip_bad_records": True}
    data = jobfile.load(write(tmp_path), (f"data={json.dumps(keys)}",)).spec.data
    assert [(s.path, s.weight, s.columns) for s in data.sources("train")] == [
        ("a", 0.3, {"prompt": "q"}),
        ("b", 2.0, {"prompt": "x"}),
    ]
    assert (data.sources("validation"), data.evaluates, data.skip_bad_records) == ([], True, True)
    mixed = jobfile.load(write(tmp_path), ('data.train=["a, b", {path: "c,d"}]',)).spec.data
    assert [source.path for source in mixed.sources("train")] == ["a", "b", "c,d"]
    assert not mixed.evaluates


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ("{train: [a, {pth: b}]}", ["data.train[1].path this key is required", "data.train[1].pth unknown key"]),
        ("{train: [{path: b, weight: 0}]}", ["data.train[0].weight expected `float` > 0.0"]),
        ("{train: [{path: b, columns: {prompt: 3}}]}", ["data.train[0].columns expected `str`, got `int`"]),
        ("{train: [a, 3]}", ["data.train[1] expected `str | object`, got `int`"]),
        ("{train: [{path: b, weight: 1}, a]}", ["data.train[1] no weight, but other sources have one"]),
        ("{train: [{path: b, weight: 1}, {path: a}]}", ["data.train[1] no weight, but other sources have one"]),
        (
            "{train: [a], validation: [{path: b, weight: 1}]}",
            ["data.validation[0].weight evaluation reads every record once"],
        ),
        (
            "{train: [a], validation: [b], validation_share: 0.1}",
            ["data.validation_share `data.validation` is given as well"],
        ),
        ("{train: [a], validation_share: 1}", ["data.validation_share expected `float` < 1.0"]),
        ("{train: [a], validation_share: 0}", ["data.validation_share expected `float` > 0.0"]),
        ("{train: [a], columns: [x]}", ["data.columns expected `object`, got `array`"]),
    ],
)
def test_bad_sources(tmp_path: Path, data: str, found: list[str]) -> None:
    text = MINIMAL.replace("data: {train: [data]}", f"data: {data}")
    said = problems(write(tmp_path, text))
    assert sorted(line.partition(" ")[2] for line in said) == found
    assert all(line.startswith("job.yaml:4:") for line in said)


def test_evaluation_defaults_need_validation_data(tmp_path: Path) -> None:
    assert "eval_steps" not in jobfile.load(write(tmp_path)).spec.train
    for override in ("data.validation=[v]", "data.validation_share=0.1"):
        assert jobfile.load(write(tmp_path), (override,)).spec.train["eval_steps"] == 50
    assert jobfile.load(write(tmp_path), ("train.eval_steps=7",)).spec.train["eval_steps"] == 7


@pytest.mark.parametrize("stage", defaults.STAGES)
def test_the_minimal_job_of_each_stage(tmp_path: Path, stage: str) -> None:
    loaded = jobfile.load(write(tmp_path), (f"stage={stage}",))
    for target in render.targets(loaded):
        assert render.RESOLVED in render.render(loaded, target, "job.yaml")


def test_the_example_of_the_issue() -> None:
    loaded = jobfile.load(EXAMPLE)
    assert loaded.notes == []
    assert loaded.effective_batch_size == 1 * 8 * 4


def test_resolved_is_complete_and_loads_to_the_same(tmp_path: Path) -> None:
    """The resolved file is itself a job file: nothing that matters is left to a default that may change."""
    resolved = jobfile.load(EXAMPLE).resolved()
    del resolved["deepspeed"]
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump(resolved))
    assert jobfile.load(path).spec == jobfile.load(EXAMPLE).spec


def test_quantised_weights_need_an_adapter(tmp_path: Path) -> None:
    assert jobfile.load(write(tmp_path), ("quantization=4bit",)).spec.lora is not None
    for off in ("lora=null", "lora=false"):
        assert problem(write(tmp_path), "quantization=4bit", off)[0] == "quantised weights cannot be trained"


def test_lora_false_is_null(tmp_path: Path) -> None:
    assert jobfile.load(write(tmp_path), ("lora=false",)).spec.lora is None


@pytest.mark.parametrize(
    ("changes", "key", "remedy"),
    [
        ("data.validation=[]", "train.load_best_model_at_end", "name `data.validation`"),
        ("train.save_strategy=epoch", "train.eval_strategy", "`eval_strategy: epoch`"),
        ("train.eval_strategy=no train.save_strategy=no", "train.save_strategy", "`save_strategy: best`"),
        ("train.eval_strategy=no", "train.eval_strategy", "`eval_strategy: steps`"),
        ("train.save_strategy=best train.eval_strategy=no", "train.eval_strategy", "`eval_strategy: steps`"),
        ("train.save_steps=75", "train.save_steps", "a multiple of 50"),
        ("train.save_steps=0.5", "train.save_steps", "a multiple of 50"),
        ("train.eval_steps=0.5", "train.save_steps", "a multiple of 0.5"),
        ("train.save_only_model=true", "train.save_only_model", "remove it"),
    ],
)
def test_the_best_checkpoint_is_one_that_is_evaluated(tmp_path: Path, changes: str, key: str, remedy: str) -> None:
    """SFT evaluates every 50 steps, saves every 500 and has ZeRO-2, where the file is silent."""
    base = ("data.validation=[data]", "train.load_best_model_at_end=true")
    fine = (
        "train.save_strategy=best",
        "train.save_steps=0.4 train.eval_steps=0.1",
        "zero=0 train.save_only_model=true",
    )
    for more in ((), *(change.split() for change in fine)):
        assert jobfile.load(write(tmp_path), (*base, *more)).spec.train["load_best_model_at_end"]
    with pytest.raises(JobFileError) as caught:
        jobfile.load(write(tmp_path), (*base, *changes.split()))
    (found,) = caught.value.problems
    assert found.key == key
    assert remedy in found.remedy


def test_the_deepspeed_launcher_needs_zero(tmp_path: Path) -> None:
    assert "no use" in problem(write(tmp_path), "launcher=deepspeed", "zero=0")[0]


@pytest.mark.parametrize(
    ("zero", "offload", "said"),
    [
        (0, "optimizer", "offload needs ZeRO"),
        (1, "optimizer+param", "cannot offload"),
        (2, "optimizer+param", "cannot"),
    ],
)
def test_offload_that_does_not_exist(tmp_path: Path, zero: int, offload: str, said: str) -> None:
    assert said in problem(write(tmp_path), f"zero={zero}", f"offload={offload}")[0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file"),
        ("{", "not JSON"),
        ("\xff", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no `zero_optimization.stage`"),
        ("{}", "no `zero_optimization.stage`"),
        ('{"zero_optimization": null}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": [2]}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": 4}}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": true}}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": 0}}', "no `zero_optimization.stage`"),
        ('{"zero_optimization": {"stage": [1]}}', "no `zero_optimization.stage`"),
    ],
)
def test_a_custom_zero_json_that_is_none(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "ds.json").write_text(content, encoding="latin-1")
    assert said in problem(write(tmp_path, zero="ds.json"))[0]


def test_a_custom_zero_json_is_copied_as_it_is(tmp_path: Path) -> None:
    text = (
        '{"zero_optimization":\n   {"stage": 2}, "gradient_clipping": "auto", "gradient_accumulation_steps": "auto",'
        '\n\t"train_batch_size": "auto", "tensorboard": {"job_name": "é"}}'
    )
    (tmp_path / "ds.json").write_text(text)
    path = write(tmp_path, zero="ds.json")
    loaded = jobfile.load(path)
    assert loaded.zero is not None
    assert (loaded.zero.stage, loaded.zero.text) == (2, text)
    assert render.render(loaded, "bash", "job.yaml")[loaded.zero.file_name] == text
    assert problem(path, "offload=optimizer")[0] == "the DeepSpeed JSON decides this itself"


@pytest.mark.parametrize(
    "name", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "PET_NNODES", "SLURM_JOB_ID", "UID", "IFS", "RANDOM"]
)
def test_variables_that_are_not_the_jobs(tmp_path: Path, name: str) -> None:
    assert problem(write(tmp_path), f"env.{name}=1")[0]


def test_no_variable_of_a_rendered_script_can_be_set_by_the_job(tmp_path: Path) -> None:
    """A job's `env: {total: 3}` would otherwise change what the script computes, or be changed by it."""
    job_ = jobfile.load(EXAMPLE)
    scripts = [text for target in render.targets(job_) for text in render.render(job_, target, "job.yaml").values()]
    assigned = {
        name
        for text in scripts
        for line in text.splitlines()
        if not line.startswith("#") and not re.search("NCCL_DEBUG|echo ", line)
        for name in re.findall(r"(?:^|[ (])([A-Za-z_]\w*)=[^=]", line)
    }
    assert {"total", "python", "preflight", "zero_json", "PET_NNODES", "HEAD_NODE", "status"} <= assigned
    # These the job may set: the script leaves the first as it finds it, and sets the second to the same end.
    # The flight recorder's come before the job's own.
    recorder = {"TORCH_FR_BUFFER_SIZE", "TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_FR_DUMP_TEMP_FILE"}
    for name in assigned - {"OMP_NUM_THREADS", "PYTHONUNBUFFERED"} - recorder:
        assert problems(write(tmp_path), f"env.{name}=1"), name


@pytest.mark.parametrize("name", ["HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET", "DB_PASSWORD", "TOKEN"])
def test_a_secrets_value_is_refused_and_not_repeated(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, env={name: "hf_abcdef"})
    with pytest.raises(JobFileError) as caught:
        jobfile.load(path)
    assert "looks like a secret" in str(caught.value)
    assert "hf_abcdef" not in str(caught.value)


def test_bash_agrees_on_which_names_can_be_exported(tmp_path: Path) -> None:
    for name in (
        "a",
        "_a1",
        "A1",
        "1A",
        "A-B",
        "A.B",
        "é",
        "UID",
        "SHELLOPTS",
        "BASHOPTS",
        "EUID",
        "PPID",
        "RANDOM",
        "LINENO",
    ):
        done = subprocess.run(
            ["bash", "-c", f"set -eu; export {name}=12345; printenv {name}"],
            capture_output=True,
            text=True,
            check=False,
        )
        kept = done.stdout == "12345\n"
        document = yamlfile.parse(f"env: {{{name}: '12345'}}", "job.yaml")
        assert bool(rules.environment(document, document.data)) is not kept, name


# --- cluster profiles ---


def profile(folder: Path, **keys: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.yaml").write_text(json.dumps(keys))


def test_profiles_beside_the_job_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = write(tmp_path)
    profile(tmp_path / "config" / "alignlaunch" / "clusters", gpu_type="user")
    assert jobfile.load(path, (), "lab").cluster.gpu_type == "user"
    profile(tmp_path / "clusters", gpu_type="beside")
    assert jobfile.load(path, (), "lab").cluster.gpu_type == "beside"
    with pytest.raises(UsageError, match=r"(?s)--cluster other: no other\.yaml in .*remedy: use one of lab"):
        jobfile.load(path, (), "other")


def test_the_job_wins_over_the_profile_and_extras_add_up(tmp_path: Path) -> None:
    profile(
        tmp_path / "clusters",
        slurm={"partition": "cluster", "qos": "low", "mem": "0", "extra": ["--constraint=h100"]},
        env={"A": "cluster", "B": "cluster", "extra": "x"},
    )
    path = write(tmp_path, slurm={"partition": "job", "extra": ["--exclusive"]}, env={"A": "job"})
    loaded = jobfile.load(path, ("slurm.qos=set",), "lab")
    slurm = loaded.spec.slurm
    assert (slurm.partition, slurm.qos, slurm.mem, slurm.extra) == (
        "job",
        "set",
        "0",
        ["--constraint=h100", "--exclusive"],
    )
    assert loaded.env == {"A": "job", "B": "cluster", "extra": "x"}
    assert jobfile.load(path).spec.slurm.extra == ["--exclusive"]
    assert jobfile.load(write(tmp_path), (), "lab").spec.slurm.extra == ["--constraint=h100"]


def test_a_profile_is_checked_like_a_job(tmp_path: Path) -> None:
    profile(tmp_path / "clusters", devise="gpu", container={"runtime": "docker", "image": ""}, gpu_memory_gib=-1)
    found = problems(write(tmp_path), cluster="lab")
    assert [line.split()[1] for line in found] == ["devise", "container.runtime", "container.image", "gpu_memory_gib"]
    assert all("clusters/lab.yaml:1:" in line for line in found)


# --- whatever is in the file ---

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**63, max_value=2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet="ab1 .,'\"${}é\n%-", max_size=5),
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "1", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = [field.name for field in msgspec.structs.fields(JobSpec)]


def nested(keys: list[str]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(keys), trees, max_size=4)


maps = st.one_of(
    trees,
    nested(["train", "validation", "max_train_samples", "validation_share", "columns"]),
    st.fixed_dictionaries({"train": st.lists(nested(["path", "weight", "columns"]) | scalars, max_size=3)}),
    nested(["r", "alpha", "dropout", "target_modules"]),
    nested(["partition", "extra", "requeue", "mem"]),
    nested(
        [
            "learning_rate",
            "warmup_ratio",
            "train_file_dir",
            "use_peft",
            "lora_rank",
            "max_source_length",
            "max_target_length",
            "load_in_8bit",
            "deepspeed",
            "eval_strategy",
            "accelerator_config",
            "max_steps",
        ]
    ),
)


@given(st.dictionaries(st.sampled_from(KEYS), maps, max_size=6), st.sampled_from(sorted(defaults.STAGES)))
def test_any_values_at_all_are_a_job_or_a_job_file_error(values: dict[str, Any], stage: str) -> None:
    base: dict[str, Any] = {"name": "tiny", "stage": stage, "model": "m", "data": {"train": ["d"]}}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "job.yaml"
        path.write_text(json.dumps(base | values))
        try:
            loaded = jobfile.load(path)
        except JobFileError as error:
            assert all(p.rule and p.remedy for p in error.problems)
        else:
            for target in render.TARGETS:
                if target not in loaded.refused:
                    render.render(loaded, target, "job.yaml")


@given(nested([field.name for field in msgspec.structs.fields(Cluster)]))
def test_any_profile_at_all_is_one_or_a_job_file_error(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder))
        profile(path.parent / "clusters", **values)
        try:
            jobfile.load(path, (), "lab")
        except JobFileError as error:
            assert error.problems


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        ("10080", 604800),
        ("5:30", 330),
        ("12:00:00", 43200),
        ("2-0", 172800),
        ("1-12:30", 131400),
        ("1-00:00:01", 86401),
        ("1:2:3", 3723),
        *[(text, None) for text in ("UNLIMITED", "unlimited", "Infinite", "infinite", "0", "0:00", "0-0")],
    ],
)
def test_time_limits_as_slurm_reads_them(tmp_path: Path, limit: str, seconds: int | None) -> None:
    assert jobfile.load(write(tmp_path), (f'time="{limit}"',)).spec.time == limit
    assert job.seconds(limit) == seconds


def test_a_time_limit_in_minutes_needs_no_quotes_and_0_is_none(tmp_path: Path) -> None:
    thirty, none = (jobfile.load(write(tmp_path), (f"time={minutes}",)) for minutes in (30, 0))
    assert (thirty.spec.time, job.seconds(30), thirty.signal_seconds) == (30, 1800, 300)
    assert (none.spec.time, job.seconds(0), none.signal_seconds) == (0, None, 300)
    assert "#SBATCH --time=30\n" in render.render(thirty, "slurm", "job.yaml")["job.sbatch"]
    assert "#SBATCH --time=0\n" in render.render(none, "slurm", "job.yaml")["job.sbatch"]


def test_a_job_shorter_than_the_warning_gets_none(tmp_path: Path) -> None:
    assert jobfile.load(write(tmp_path), ('time="5:00"',)).signal_seconds == 0
    assert jobfile.load(write(tmp_path), ('time="5:01"',)).signal_seconds == 300


@pytest.mark.parametrize("name", ["ALL", "NONE", "NIL"])
def test_a_secret_that_would_open_the_whole_shell_is_refused(job_file: Path, name: str) -> None:
    with pytest.raises(JobFileError, match=r"secrets\[0\] = .*: to sbatch this is no variable, but the whole shell"):
        jobfile.load(job_file, (f"secrets=[{name}]",))


def test_the_value_of_a_secret_is_not_repeated(job_file: Path) -> None:
    with pytest.raises(JobFileError, match=r"--set env\.HF_TOKEN=\.\.\.: env\.HF_TOKEN: looks like a secret") as caught:
        jobfile.load(job_file, ("env.HF_TOKEN=hf_abcdefgh1234",))
    assert "hf_abc" not in str(caught.value)
