"""The parameters and dimensions of a model, from its config.json or its safetensors headers."""
