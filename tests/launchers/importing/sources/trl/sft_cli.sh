trl sft --config sft.yaml --accelerate_config zero2 --num_processes 4 \
    --use_peft --lora_r 32 --lora_target_modules q_proj k_proj v_proj o_proj
