"""The verbs of the command line that concern boards: board, compare, submit, verify, demo, papers."""
