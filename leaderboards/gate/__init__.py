"""The gate before a board: what a submission must hold to, a stage a file, and the same for the committed
boards.
"""
