"""Stand-ins for nvidia-smi and sinfo, in a folder that is the whole PATH."""

from __future__ import annotations

from pathlib import Path

#: What nvidia-smi 550 prints for -L, with a GPU that is cut into parts.
TWO_GPUS = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1b7e9c3a-0f1d-4a43-9d4b-1f1a3b0c2d3e)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2c8f0d4b-1a2e-4b54-8e5c-2a2b4c1d3e4f)
  MIG 1g.10gb     Device  0: (UUID: MIG-3d9a1e5c-2b3f-4c65-9f6d-3b3c5d2e4f5a)
"""
HANGS = "exec /bin/sleep 600"


def says(text: str, code: int = 0) -> str:
    """The script of a tool that prints this."""
    return f"/bin/cat <<'END'\n{text}END\nexit {code}"


def path_of(folder: Path, **scripts: str) -> str:
    """A PATH with these tools alone; `nvidia_smi` stands for nvidia-smi."""
    place = folder / "bin"
    place.mkdir()
    for name, script in scripts.items():
        tool = place / name.replace("_", "-")
        tool.write_text(f"#!/bin/sh\n{script}\n")
        tool.chmod(0o755)
    return str(place)
