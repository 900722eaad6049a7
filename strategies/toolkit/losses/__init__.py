"""Loss functions that several families use."""
