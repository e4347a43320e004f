"""Clients that people use, unmodified, on a gateway and on the provider itself: they must not see a difference."""
