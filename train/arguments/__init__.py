"""The arguments that trl, transformers and DeepSpeed accept, as data, for checks that need none of them."""
