"""What is compared with what: suites, protocols, cells and their keys, what can be shared or packed."""
