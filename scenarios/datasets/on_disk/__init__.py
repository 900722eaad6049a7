"""Data sets that users have on disk, in the layouts their publishers gave them; one file per source."""
