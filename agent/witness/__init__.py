"""What a camera remembers of its card outside of the card."""
