"""`alignlaunch import` as it is called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import Cli

SCRIPT = """\
export NCCL_SOCKET_IFNAME=ib0
export WANDB_API_KEY=0123456789abcdef0123456789abcdef01234567
wandb login fedcba9876543210fedcba9876543210fedcba98
torchrun --nnodes=$1 --nproc_per_node=${2:-4} dpo.py --model_name_or_path m --train_file_dir d --use_peft True \\
    --secret_token hf_abcdefghijkl
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.sh"
    path.write_text(SCRIPT)
    return path


def test_the_job_file_is_stdout_and_prose_is_stderr(cli: Cli, script: Path) -> None:
    done = cli("import", "train.sh", "--", "2", "8")
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load(done.stdout)
    assert (job["stage"], job["nnodes"], job["nproc_per_node"], job["secrets"]) == ("dpo", 2, 8, ["WANDB_API_KEY"])
    assert "# network_interface: ib0" in done.stdout
    assert all(line.startswith("alignlaunch: ") for line in done.stderr.splitlines())
    assert "--secret_token (line 5): not an argument of the dpo trainer" in done.stderr
    assert "fedcba" not in done.stdout + done.stderr
    assert "0123456789abcdef" not in done.stdout + done.stderr
    assert "hf_abc" not in done.stdout + done.stderr


def test_an_argument_that_is_not_given_is_guessed_and_said(cli: Cli, script: Path) -> None:
    done = cli("import", "train.sh")
    assert yaml.safe_load(done.stdout)["nnodes"] == 1
    assert "nnodes: 1: --nnodes (line 4): $1 is known only when the script runs: give it after `--`" in done.stderr


def test_files_are_written_and_never_overwritten(cli: Cli, script: Path, tmp_path: Path) -> None:
    told = cli("import", "-o", "job.yaml", "--cluster-file", "lab.yaml", "train.sh", "--", "2")
    assert (told.returncode, told.stdout) == (0, "")
    assert (tmp_path / "lab.yaml").read_text().startswith("network_interface: ib0")
    assert "For a cluster profile" not in (tmp_path / "job.yaml").read_text()
    before = (tmp_path / "job.yaml").read_bytes()
    for options in (("-o", "job.yaml"), ("-o", "new.yaml", "--cluster-file", "lab.yaml")):
        done = cli("import", *options, "train.sh")
        assert (done.returncode, "exists already" in done.stderr) == (2, True)
    assert (tmp_path / "job.yaml").read_bytes() == before
    assert not (tmp_path / "new.yaml").exists()


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("a.sh", "echo hello\n", "nothing in it starts training"),
        ("a.sh", "exit 1\ntorchrun x.py\n", "reading ended at line 1"),
        ("a.sh", "trl grpo --model_name_or_path m\n", "alignlaunch does not train grpo"),
        ("a.yaml", "base_model: m\nrl: kto\n", "rl kto: alignlaunch does not train it"),
        ("a.yaml", "stage: ppo\nfinetuning_type: lora\n", "stage ppo: alignlaunch does not train it"),
        ("a.yaml", "name: x\nstage: sft\nmodel: m\n", "none of the files that can be read"),
        ("a.yaml", "{", "not YAML"),
        ("a.sh", "\udcff", "not UTF-8"),
    ],
)
def test_what_is_no_source_is_an_error_with_a_remedy(cli: Cli, tmp_path: Path, name: str, text: str, rule: str) -> None:
    (tmp_path / name).write_text(text, errors="surrogateescape")
    done = cli("import", name)
    assert (done.returncode, done.stdout) == (2, "")
    assert rule in done.stderr
    assert "remedy: " in done.stderr


def test_without_the_parser_the_extra_is_named(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alignlaunch.launchers.errors import UsageError
    from alignlaunch.launchers.importing import read

    monkeypatch.setitem(sys.modules, "tree_sitter_bash", None)
    with pytest.raises(UsageError, match=r"pip install 'alignlaunch\[import\]'"):
        read.read(script, [])


def test_a_configuration_needs_no_parser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from alignlaunch.launchers.importing import read

    monkeypatch.setitem(sys.modules, "tree_sitter_bash", None)
    path = tmp_path / "lf.yaml"
    path.write_text("stage: sft\nfinetuning_type: full\nmodel_name_or_path: m\n")
    assert read.read(path, []).job["model"].value == "m"
