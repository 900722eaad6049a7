"""Ablations, sweeps and searches, each whole: design, what was measured, effects, text, pictures, page."""
