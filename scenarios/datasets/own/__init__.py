"""Data of the user's own, one file a kind: pictures in folders, a table, arrays, a data set of Hugging Face."""
