"""Stand-ins for Slurm's commands, so that what they were given can be read back. tests/slurm/ has the real ones."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

JOB = """
name: gruesse
stage: orpo
model: model
data: {train: [data]}
nnodes: 2
nproc_per_node: 4
env: {GREETING: "你好, Grüße, €"}
secrets: [HF_TOKEN]
slurm: {partition: gpu, account: lab}
"""

# $0 is the stub's own path: what it is given and how it shall answer lie beside it.
SBATCH = r"""#!/bin/bash
PATH=/usr/bin:/bin here=$(dirname "$0")
if [[ -e $here/refusal ]]; then cat "$here/refusal" >&2; exit 1; fi
printf '%s\n' "$@" > "$here/arguments"
cp "${@: -1}" "$here/script"
printf '%s' "${HF_TOKEN-}" > "$here/token"
compgen -e > "$here/variables"
if [[ -e $here/warning ]]; then cat "$here/warning" >&2; fi
cat "$here/answer"
"""
SCONTROL = r"""#!/bin/bash
PATH=/usr/bin:/bin here=$(dirname "$0")
if [[ -e $here/down ]]; then echo 'slurm_load_ctl_conf error: Unable to contact slurm controller' >&2; exit 1; fi
echo 'ClusterName             = stub'
"""
SRUN = "#!/bin/sh\nexit 1\n"


@dataclass
class StubSlurm:
    """A folder for PATH: Slurm's commands as stubs, and of the machine's own only what a submission needs."""

    bin: Path

    @classmethod
    def create(cls, folder: Path) -> StubSlurm:
        folder.mkdir()
        for name, text in {"sbatch": SBATCH, "scontrol": SCONTROL, "srun": SRUN}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        for name in ("env", "git"):
            found = shutil.which(name)
            assert found
            (folder / name).symlink_to(found)
        (folder / "answer").write_text("Submitted batch job 42\n")
        return cls(folder)

    def remove(self, name: str) -> None:
        (self.bin / name).unlink()

    def refuse(self, words: str) -> None:
        (self.bin / "refusal").write_text(words)

    def answer(self, words: str) -> None:
        (self.bin / "answer").write_text(words)

    def stop(self) -> None:
        (self.bin / "down").touch()

    @property
    def arguments(self) -> list[str]:
        """What the last sbatch was called with."""
        return (self.bin / "arguments").read_text().splitlines()

    @property
    def script(self) -> bytes:
        """The bytes that the last sbatch was given."""
        return (self.bin / "script").read_bytes()

    @property
    def token(self) -> str:
        """HF_TOKEN in the last sbatch's environment."""
        return (self.bin / "token").read_text()

    @property
    def variables(self) -> list[str]:
        """Names in the last sbatch's environment."""
        return (self.bin / "variables").read_text().split()

    @property
    def was_asked(self) -> bool:
        return (self.bin / "script").exists()
