"""H.264 and AAC through PyAV."""
