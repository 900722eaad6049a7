"""Which code a plugin is: modules by path, what they import, and a form of their text that survives renaming."""
