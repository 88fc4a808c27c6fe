#!/bin/bash
# bash scripts/train_dpo_distributed.sh 8
NUM_GPUS=${1:-8}
export NCCL_DEBUG=INFO
export NCCL_IB_DISABLE=1

torchrun --nproc_per_node="$NUM_GPUS" --master_port=29501 \
    -m src.training.train_safe_mm_dpo \
    --config configs/dpo_config.yaml \
    --output_dir models/aligned \
    --logging_dir logs/training/safe_mm_dpo
