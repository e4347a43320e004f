"""Guarded generation: rails, providers, generation, sessions and the Python API. It knows no queue and no Redis."""
