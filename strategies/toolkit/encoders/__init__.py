"""Frozen encoders by name."""
