"""Images and labels, one file per source. `harness.plugins.find("dataset", name)` finds them; nothing here is
imported before use.
"""
