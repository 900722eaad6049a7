"""One process for every piece of work: whatever code of a strategy leaves behind ends with the process it ran
in.

A warm parent (`parent`) has the libraries loaded, has run nothing and holds no threads; for every task it
forks a process that begins in that very state. `fork_server` is how it looks from outside, `limits` holds a
task to its time and memory, `mapped` hands stages over without copying them, `messages` are what a task is
and what comes back. Two kinds of tasks are forked so: cells of a run (`cell`), and the code of strangers behind
walls (`harness.sandbox`).
"""
