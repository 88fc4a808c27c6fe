#!/bin/bash
# shellcheck disable=SC2154 # job.sbatch sets the variables
# Made by alignlaunch from direct.yaml (what it says: sha256 3f368ee41a8d8e41af3c1fe4a44d9982b2914fa601f5f2915a04601eab29b032). Do not edit.
# What follows an attempt that has ended with $status: job.sbatch runs this, and nobody else.

python() {
    "$PYTHON" "$@"
}
tell() { # as `notify` in the job asks for it; in a few seconds, delivered or not
    python -m alignlaunch.launchers.retry.tell "$RUN_DIR" --code "$@" || true
}
[[ "$status" -eq 0 ]] || tell "$status"
