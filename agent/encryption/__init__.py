"""age (age-encryption.org/v1): files and fields that only the evidence system's key opens."""
