"""The engine of openworld-bench: contracts, cells, execution, scoring, record. Nothing here knows a
particular method or data set.
"""
