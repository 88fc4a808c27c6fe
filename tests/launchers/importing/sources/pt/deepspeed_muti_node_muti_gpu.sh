#!/bin/bash
# Usage: bash deepspeed_muti_node_muti_gpu.sh [zero_stage] [num_nodes] [gpus_per_node] [master_addr] [master_port]
set -euo pipefail

ZERO_STAGE=${1:-3}
NUM_NODES=${2:-1}
GPUS_PER_NODE=${3:-4}
MASTER_ADDR=${4:-localhost}
MASTER_PORT=${5:-29501}
NODE_RANK=${NODE_RANK:-0}
WORLD_SIZE=$((NUM_NODES * GPUS_PER_NODE))

SCRIPT_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
case "${ZERO_STAGE}" in
    1) DEEPSPEED_CONFIG="${SCRIPT_DIR}/zero1.json" ;;
    2) DEEPSPEED_CONFIG="${SCRIPT_DIR}/zero2.json" ;;
    3) DEEPSPEED_CONFIG="${SCRIPT_DIR}/zero3.json" ;;
    *)
        echo "ZeRO 阶段必须是 1、2 或 3"
        exit 1
        ;;
esac
if [ ! -f "${DEEPSPEED_CONFIG}" ]; then
    echo "找不到 ${DEEPSPEED_CONFIG}"
    exit 1
fi

MODEL_PATH=../model/Qwen/Qwen3-0.6B
TRAIN_DATA_DIR=../data/pretrain
VALID_DATA_DIR=../data/pretrain_eval
OUTPUT_DIR=../output/pt_zero${ZERO_STAGE}

PER_DEVICE_TRAIN_BATCH_SIZE=1
PER_DEVICE_EVAL_BATCH_SIZE=1
GRADIENT_ACCUMULATION_STEPS=16
NUM_TRAIN_EPOCHS=0.5
LEARNING_RATE=2e-4
WEIGHT_DECAY=0.01
WARMUP_RATIO=0.05
MAX_TRAIN_SAMPLES=10000
MAX_EVAL_SAMPLES=10

mkdir -p "$OUTPUT_DIR"
export CUDA_VISIBLE_DEVICES=$(seq -s, 0 $((GPUS_PER_NODE - 1)))
export NODE_RANK WORLD_SIZE

deepspeed --num_nodes $NUM_NODES --num_gpus $GPUS_PER_NODE \
    --master_addr $MASTER_ADDR --master_port $MASTER_PORT --node_rank $NODE_RANK --no_ssh \
    pretraining.py \
    --deepspeed "$DEEPSPEED_CONFIG" \
    --model_name_or_path "$MODEL_PATH" \
    --train_file_dir "$TRAIN_DATA_DIR" \
    --validation_file_dir "$VALID_DATA_DIR" \
    --output_dir "$OUTPUT_DIR" \
    --do_train --do_eval \
    --use_peft True --lora_rank 8 --lora_alpha 16 --lora_dropout 0.05 --target_modules all \
    --per_device_train_batch_size $PER_DEVICE_TRAIN_BATCH_SIZE \
    --per_device_eval_batch_size $PER_DEVICE_EVAL_BATCH_SIZE \
    --gradient_accumulation_steps $GRADIENT_ACCUMULATION_STEPS \
    --num_train_epochs $NUM_TRAIN_EPOCHS \
    --learning_rate $LEARNING_RATE \
    --weight_decay $WEIGHT_DECAY \
    --warmup_ratio $WARMUP_RATIO \
    --max_train_samples $MAX_TRAIN_SAMPLES \
    --max_eval_samples $MAX_EVAL_SAMPLES \
    --block_size 1024 \
    --logging_strategy steps --logging_steps 10 \
    --save_strategy steps --save_steps 500 --save_total_limit 3 \
    --torch_dtype bfloat16 --bf16 \
    --overwrite_output_dir 2>&1 | tee "$OUTPUT_DIR/train.log"
