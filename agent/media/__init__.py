"""Encoded packets, their formats and units. Imports nothing of the agent."""
