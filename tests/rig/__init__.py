"""The virtual device: a body camera in a box. See README.md beside this file."""
