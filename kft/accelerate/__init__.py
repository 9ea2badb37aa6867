"""Optimisations of the network that do not change what it computes."""
