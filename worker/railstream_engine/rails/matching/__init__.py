"""Searching text that arrives in pieces: patterns, terms and detectors, on plain or folded text."""
