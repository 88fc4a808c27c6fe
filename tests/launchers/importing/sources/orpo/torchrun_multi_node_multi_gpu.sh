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
OUTPUT_DIR="../output/orpo_zero${ZERO_STAGE}"
CACHE_DIR="../output/cache"
mkdir -p "${OUTPUT_DIR}" "${CACHE_DIR}"

PER_DEVICE_TRAIN_BATCH_SIZE=1
GRADIENT_ACCUMULATION_STEPS=4
EFFECTIVE_BATCH_SIZE=$((PER_DEVICE_TRAIN_BATCH_SIZE * GRADIENT_ACCUMULATION_STEPS * WORLD_SIZE))
echo "effective batch size: ${EFFECTIVE_BATCH_SIZE}"

torchrun \
    --nnodes="${NUM_NODES}" \
    --nproc_per_node="${GPUS_PER_NODE}" \
    --node_rank="${NODE_RANK}" \
    --master_addr="${MASTER_ADDR}" \
    --master_port="${MASTER_PORT}" \
    orpo_training.py \
    --model_name_or_path "${MODEL_PATH}" \
    --tokenizer_name_or_path "${TOKENIZER_PATH}" \
    --train_file_dir "${TRAIN_FILE_DIR}" \
    --output_dir "${OUTPUT_DIR}" \
    --cache_dir "${CACHE_DIR}" \
    --deepspeed "${DEEPSPEED_CONFIG}" \
    --do_train \
    --do_eval \
    --use_peft True \
    --per_device_train_batch_size ${PER_DEVICE_TRAIN_BATCH_SIZE} \
    --per_device_eval_batch_size 1 \
    --gradient_accumulation_steps ${GRADIENT_ACCUMULATION_STEPS} \
    --max_train_samples 1000 \
    --max_eval_samples 50 \
    --max_steps 100 \
    --eval_strategy steps \
    --eval_steps 20 \
    --save_steps 50 \
    --lora_rank 8 \
    --lora_alpha 16 \
    --lora_dropout 0.05 \
    --target_modules all \
    --orpo_beta 0.1 \
    --torch_dtype bfloat16 \
    --bf16 True \
    --gradient_checkpointing True \
    --remove_unused_columns False \
    --report_to tensorboard \
    --overwrite_output_dir
