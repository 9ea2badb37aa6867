"""Benchmarks known by name: their registry, layouts and loading."""
