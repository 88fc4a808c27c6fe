"""The shipped list of trainer arguments is that of the installed trl."""

from __future__ import annotations

import json

from alignlaunch.train.arguments import trainer_args


def test_the_file_is_up_to_date() -> None:
    assert trainer_args.FILE.read_text() == trainer_args.text(), (
        "python -m alignlaunch.train.arguments.trainer_args --write"
    )


def test_what_the_file_says() -> None:
    found = json.loads(trainer_args.FILE.read_text())
    stages = found["stages"]
    assert stages.keys() == {"pt", "sft", "rm", "dpo", "orpo", "safe_dpo"}
    assert stages["orpo"]["beta"] == {"type": "float"}
    assert stages["pt"]["packing_strategy"] == {"type": "str"}
    assert stages["sft"]["eval_strategy"] == {"type": "str", "choices": ["epoch", "no", "steps"]}
    assert not any(name in found["owned"] for arguments in stages.values() for name in arguments)
