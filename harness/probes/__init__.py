"""Probes: figures of a learner while it learns, one file a probe. What one is: `contract.py`."""
