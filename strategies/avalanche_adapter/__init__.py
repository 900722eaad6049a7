"""Avalanche's strategies and benchmarks under our contract. Nothing else imports avalanche, and importing
this package does not either.
"""
