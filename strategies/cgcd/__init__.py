"""Continual generalised category discovery: Happy, SimGCD and the methods they are held against."""
