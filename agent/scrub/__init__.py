"""Bit rot: sealed files read again from the card, slowly, while the camera has nothing else to do."""
