#!/bin/bash
# Usage: bash torchrun_multi_node_multi_gpu.sh [zero_stage] [num_nodes] [gpus_per_node] [master_addr] [master_port]
set -euo pipefail

ZERO_STAGE=${1:-3}
NUM_NODES=${2:-1}
GPUS_PER_NODE=${3:-4}
MASTER_ADDR=${4:-localhost}
MASTER_PORT=${5:-29500}
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

MODEL_PATH="../model/Qwen/Qwen3-0.6B"
TOKENIZER_PATH="../output/tokenizers_merge"
TRAIN_FILE_DIR="../data/reward"
VALID_FILE_DIR="../data/reward_eval"
OUTPUT_DIR="../output/rm_zero${ZERO_STAGE}"
CACHE_DIR="../output/cache"
mkdir -p "$OUTPUT_DIR"

DISTRIBUTED_ARGS="
    --nnodes $NUM_NODES
    --nproc_per_node $GPUS_PER_NODE
    --node_rank $NODE_RANK
    --master_addr $MASTER_ADDR
    --master_port $MASTER_PORT
"

torchrun $DISTRIBUTED_ARGS reward_modeling.py \
    --model_name_or_path "$MODEL_PATH" \
    --tokenizer_name_or_path "$TOKENIZER_PATH" \
    --train_file_dir "$TRAIN_FILE_DIR" \
    --validation_file_dir "$VALID_FILE_DIR" \
    --output_dir "$OUTPUT_DIR" \
    --cache_dir "$CACHE_DIR" \
    --deepspeed "$DEEPSPEED_CONFIG" \
    --do_train --do_eval \
    --use_peft True \
    --per_device_train_batch_size 1 \
    --per_device_eval_batch_size 1 \
    --gradient_accumulation_steps 8 \
    --num_train_epochs 1 \
    --learning_rate 2e-5 \
    --weight_decay 0.001 \
    --warmup_ratio 0.05 \
    --max_train_samples 1000 \
    --max_eval_samples 10 \
    --max_source_length 1024 \
    --max_target_length 256 \
    --lora_rank 8 --lora_alpha 16 --lora_dropout 0.05 --target_modules all \
    --torch_dtype bfloat16 --bf16 \
    --gradient_checkpointing True \
    --remove_unused_columns False \
    --report_to tensorboard \
    --overwrite_output_dir
