"""The training loop: the trainer, its arguments, batches, checkpoints."""
