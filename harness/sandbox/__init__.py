"""Running code that nobody has vouched for: a process of its own that gets arrays and gives arrays, and can
reach nothing else.

`run` starts a fresh Python without the user's environment. Where Linux lends namespaces, the process has no
network, sees no other process and finds every file read-only but those of its scratch folder, which lies in
memory and has a size. Where Linux has filters of system calls, it cannot as much as ask for a connection or a
process, and what it asks for is told outside, whatever it does to itself. Everywhere it has limits on time
and memory, and an audit hook that says in a sentence what was tried. Stages are handed over one at a time,
each after the answers to the one before; answers come back as arrays that are checked before they are loaded.
Nothing is unpickled, and the truth stays outside.
"""

from harness.sandbox.checking import Checked, check
from harness.sandbox.launch import Bounds, Result, lacking, run
from harness.sandbox.wire import Task

__all__ = ["Bounds", "Checked", "Result", "Task", "check", "lacking", "run"]
