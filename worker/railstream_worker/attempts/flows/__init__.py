"""Attempts of a flow: several operations on one stream."""
