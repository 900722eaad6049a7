"""Continual generalized category discovery: the scenario, how it deals, its sizes and presets, how it is
scored.
"""
