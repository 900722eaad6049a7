"""Published tables as suites, one file each: the protocol, the published figures and where they stand; and a
run of ours beside them.
"""
