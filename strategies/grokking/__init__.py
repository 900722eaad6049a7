"""Grokking under label corruption: an exact engine for many small networks at once, and the remedies that run
on it.
"""
