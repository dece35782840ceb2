"""Configuration: one schema, one strict loader."""
