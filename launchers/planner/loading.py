"""Host memory while a model is loaded onto the GPUs of a node. `bench/loading.py` measures it."""

from __future__ import annotations

from .tuning import Tuning


def host(tuning: Tuning, *, zero: int, half: bool, ranks: int) -> float:
    """Bytes of a node of so many ranks, as `train.model.loading` loads it. half: the job trains in 16 bits.

    All ranks map the same files, whose pages count once. Each weight goes to the GPU as it is read: what is on its way
    in each rank counts as its largest module, in the precision in which it is loaded.
    """
    config = tuning.model.architecture.config
    stored = 4 if "float32" in (config.get("dtype"), config.get("torch_dtype")) else 2
    loaded = 2 if half and (tuning.lora or zero in (1, 2)) else 4
    return stored * tuning.count + ranks * loaded * tuning.largest_module
