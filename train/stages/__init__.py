"""The training stages: each one's trainer, losses and evaluation."""
