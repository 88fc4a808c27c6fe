#!/bin/bash
# 单节点：NPROC_PER_NODE=4 bash torchrun_multi_node_multi_gpu.sh
export MASTER_ADDR=${MASTER_ADDR:-localhost}
export MASTER_PORT=${MASTER_PORT:-29500}
export NODE_RANK=${NODE_RANK:-0}
export WORLD_SIZE=${WORLD_SIZE:-1}
export NPROC_PER_NODE=${NPROC_PER_NODE:-4}
export TOKENIZERS_PARALLELISM=false

MODEL_PATH=../model/Qwen/Qwen3-0.6B
TOKENIZER_PATH=../output/tokenizers_merge
TRAIN_FILE_DIR=../data/sft
VALID_FILE_DIR=../data/sft_eval
OUTPUT_DIR=../output/sft

train() {
    local lora_rank=${1:-8}
    local lora_alpha=${2:-16}
    torchrun --nnodes=$WORLD_SIZE --nproc_per_node=$NPROC_PER_NODE --node_rank=$NODE_RANK \
        --master_addr=$MASTER_ADDR --master_port=$MASTER_PORT \
        supervised_finetuning.py \
        --model_name_or_path $MODEL_PATH \
        --tokenizer_name_or_path $TOKENIZER_PATH \
        --train_file_dir "$TRAIN_FILE_DIR" \
        --validation_file_dir "$VALID_FILE_DIR" \
        --output_dir $OUTPUT_DIR \
        --deepspeed ds_config.json \
        --do_train --do_eval --use_peft True \
        --model_max_length 2048 \
        --lora_rank $lora_rank --lora_alpha $lora_alpha --lora_dropout 0.05 --target_modules all \
        --learning_rate 2e-5 \
        --num_train_epochs 1 \
        --per_device_train_batch_size 1 \
        --gradient_accumulation_steps 8 \
        --preprocessing_num_workers 8 \
        --dataloader_num_workers 4 \
        --bf16 --flash_attn True --gradient_checkpointing True \
        --tool_format qwen \
        --report_to tensorboard
}

train
