"""Soft labels for items that have none: `rules` by name, `transport` that solves those with even classes."""
