"""Learning with noisy labels: a transform over any scenario with labels."""
