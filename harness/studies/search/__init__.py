"""Searching for settings on held-out items: what is asked, who proposes, who tries, what is remembered."""
