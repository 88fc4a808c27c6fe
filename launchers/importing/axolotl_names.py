"""axolotl's names: what each of them is here, and its defaults (as of its commit 067b021c, July 2026)."""

from __future__ import annotations

from typing import Any

from alignlaunch.train.config import Stage

from ..job.legacy import Move
from .arguments import Tool, off
from .tools import TRANSFORMERS

_MODEL = "the model's own files say it"
_KERNEL = "a faster kernel for the same result"


def defaults(stage: Stage) -> dict[str, Any]:
    """AxolotlInputConfig, and what its builders pass to the trainer."""
    found = TRANSFORMERS | {
        **{"lora.dropout": 0.0, "train.bf16": True, "train.gradient_checkpointing": False},
        **{"train.per_device_train_batch_size": 1, "train.num_train_epochs": 1.0},
        **{"train.lr_scheduler_type": "cosine", "train.optim": "adamw_torch_fused"},
        **{"train.max_length": 512, "train.save_total_limit": 4, "train.average_tokens_across_devices": False},
    }
    for key in ("train.per_device_eval_batch_size", "train.warmup_steps", "train.logging_steps", "train.save_steps"):
        del found[key]
    return found | ({"train.beta": 0.1} if stage in ("dpo", "orpo") else {})


def _name(to: str) -> Move:
    return Move(to, "transformers' name")


TOOL = Tool(
    "axolotl",
    moves={
        "base_model": Move("model", ""),
        "tokenizer_config": Move("tokenizer", ""),
        "micro_batch_size": _name("train.per_device_train_batch_size"),
        "eval_batch_size": _name("train.per_device_eval_batch_size"),
        "num_epochs": _name("train.num_train_epochs"),
        "optimizer": _name("train.optim"),
        "lr_scheduler": _name("train.lr_scheduler_type"),
        "sequence_len": Move("train.max_length", "one limit for prompt and answer"),
        "sample_packing": Move("train.packing", "TRL's name"),
        "lora_r": Move("lora.r", ""),
        "peft_use_dora": Move("lora.dora", ""),
        "lora_target_linear": Move("lora.target_modules", "", lambda value: None if off(value) else "all"),
        "lora_target_modules": Move("lora.target_modules", ""),
        "rl_beta": _name("train.beta"),
        "orpo_alpha": _name("train.beta"),
        "dpo_loss_type": Move("train.loss_type", "TRL's name"),
        "dpo_label_smoothing": Move("train.label_smoothing", "TRL's name"),
        "dpo_use_weighting": Move("train.use_weighting", "TRL's name"),
        "rl": Move(None, "it is the job's `stage`"),
        "reward_model": Move(None, "it is the job's `stage`"),
        "num_labels": Move(None, "a reward model has one"),
        "flash_attention": Move(
            "attn_implementation", "transformers' name", lambda v: None if off(v) else "flash_attention_2"
        ),
        "sdp_attention": Move("attn_implementation", "transformers' name", lambda v: None if off(v) else "sdpa"),
        "eager_attention": Move("attn_implementation", "transformers' name", lambda v: None if off(v) else "eager"),
        **dict.fromkeys(
            (
                f"liger_{name}"
                for name in ("rms_norm", "glu_activation", "layer_norm", "rope", "fused_linear_cross_entropy")
            ),
            Move(
                "train.use_liger_kernel",
                "all of Liger's kernels for the model",
                lambda value: None if off(value) else True,
            ),
        ),
        "wandb_name": Move("train.run_name", "transformers' name"),
        **{
            f"wandb_{name}": Move(f"env.WANDB_{name.upper()}", "wandb reads it")
            for name in ("project", "entity", "watch", "log_model", "mode", "run_id")
        },
        **dict.fromkeys(
            (
                "model_type",
                "tokenizer_type",
                "processor_type",
                "is_llama_derived_model",
                "is_mistral_derived_model",
                "is_qwen_derived_model",
                "tokenizer_use_fast",
            ),
            Move(None, _MODEL),
        ),
        **dict.fromkeys(
            ("lora_mlp_kernel", "lora_qkv_kernel", "lora_o_kernel", "lora_embedding_kernel", "low_cpu_mem_usage"),
            Move(None, _KERNEL),
        ),
        **dict.fromkeys(
            ("dataset_prepared_path", "dataset_keep_in_memory"),
            Move(None, "tokenised rows are cached by their content"),
        ),
        **dict.fromkeys(("eval_sample_packing", "pad_to_sequence_len"), Move(None, "padding, and no other result")),
        **dict.fromkeys(
            ("strict", "debug", "shuffle_merged_datasets", "use_tensorboard", "use_wandb"),
            Move(None, "alignlaunch decides it"),
        ),
        "auto_resume_from_checkpoints": Move(None, "a run that was interrupted goes on", unless=False),
        "push_dataset_to_hub": Move(None, "nothing is pushed"),
    },
    off=frozenset(
        "lora_model_dir lora_modules_to_save lora_fan_in_fan_out lora_on_cpu lora_target_parameters peft_use_rslora "
        "peft_layers_to_transform loraplus_lr_ratio relora gptq loss_watchdog_threshold loss_watchdog_patience "
        "early_stopping_patience gc_steps train_on_inputs streaming curriculum_sampling batch_flattening use_pose fsdp "
        "fsdp_config fsdp_version tensor_parallel_size context_parallel_size sequence_parallel_degree tokens "
        "use_mlflow use_comet use_trackio unfrozen_parameters noisy_embedding_alpha s2_attention xformers_attention "
        "flex_attention dpo_generate_during_eval process_reward_model trainer_cls qat quantization save_first_step "
        "do_bench_eval do_causal_lm_eval eval_table_size generate_samples fp8 float16 dataset_exact_deduplication "
        "default_system_message resize_token_embeddings_to_32x embedding_lr lr_groups cosine_min_lr_ratio "
        "excess_length_strategy chunked_cross_entropy tiled_mlp".split()
    ),
    defaults=defaults,
)
