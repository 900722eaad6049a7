"""The board folder: its format, publishing, checking, rescoring, submissions, and the README of a board."""
