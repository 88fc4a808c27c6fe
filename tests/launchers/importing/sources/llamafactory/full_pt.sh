#!/bin/bash
# Two nodes: NNODES=2 NODE_RANK=0 MASTER_ADDR=... bash full_pt.sh
export FORCE_TORCHRUN=1 NNODES=2 NPROC_PER_NODE=8
export HF_TOKEN=hf_xxxxxxxxxxxxxxxx
llamafactory-cli train full_pt.yaml learning_rate=2e-5
