"""Hostile bytes for every reader: one list of targets, a short run in `make test`, a long one by `make fuzz`."""
