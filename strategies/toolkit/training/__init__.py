"""The training loop and what it runs on: schedules, tensors that stay on disk, prefetching, evaluation mode."""
