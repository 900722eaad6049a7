"""Records in MLflow, stored predictions, and the pictures of one cell."""
