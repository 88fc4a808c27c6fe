#!/bin/bash
# bash scripts/train_rm_distributed.sh helpful 8
TASK=${1:?helpful or harmless}
NUM_GPUS=${2:-8}
case $TASK in
    helpful) OUTPUT_DIR=models/helpful_rm; PORT=29500 ;;
    harmless) OUTPUT_DIR=models/harmless_rm; PORT=29502 ;;
esac

# export NCCL_IB_DISABLE=1
export NCCL_DEBUG=INFO

torchrun --nproc_per_node=$NUM_GPUS --master_port=$PORT \
    -m src.training.train_rm \
    --config configs/rm_config.yaml \
    --task $TASK \
    --output_dir $OUTPUT_DIR
