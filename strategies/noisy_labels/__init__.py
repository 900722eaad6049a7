"""Learning with noisy labels: ELR, nested dropout and co-teaching, robust losses, corrections."""
