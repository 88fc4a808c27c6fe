"""Direct preference optimisation. A stage as `stages.registry` describes it."""

from .config import Config
from .trainer import HEAD, encoder, image_encoder, trainer

__all__ = ["HEAD", "Config", "encoder", "image_encoder", "trainer"]
