"""The conformance suite: what is claimed of every strategy, scenario and data set, and how it is tried."""
