"""The verb of the command line that concerns data sets: data."""
