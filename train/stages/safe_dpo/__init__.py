"""Safe DPO: helpful and harmless at once. A stage as `stages.registry` describes it."""

from .trainer import HEAD, Config, encoder, finish, image_encoder, trainer

__all__ = ["HEAD", "Config", "encoder", "finish", "image_encoder", "trainer"]
