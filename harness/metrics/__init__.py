"""Pure functions on arrays, one file per task family."""
