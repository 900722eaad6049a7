"""How it is learned: one file per method, and the toolkit that methods share."""
