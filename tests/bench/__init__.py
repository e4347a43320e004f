"""Benchmarks: what a chunk and a request cost in each process, and the latency and memory they come with."""
