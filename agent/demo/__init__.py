"""The demonstration: the real daemon in its own process, its pins pressed from the far side."""
