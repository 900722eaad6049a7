"""What several methods share: networks, the training loop, buffers, tensors."""
