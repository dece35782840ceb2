"""Findings about a vault or package, from the files alone."""
