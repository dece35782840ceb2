"""Evidence packages and the stores they go to."""
