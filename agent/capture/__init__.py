"""Cameras and microphones: one Protocol each, one file per backend."""
