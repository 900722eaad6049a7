"""Grokking under label corruption: tables of modular arithmetic, some of whose training labels are wrong."""
