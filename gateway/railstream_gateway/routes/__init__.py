"""The HTTP API, a module for each thing that is asked for."""
