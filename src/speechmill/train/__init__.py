"""Training: one loop, its checkpoints, its log."""
