"""Signatures inside the video: ONVIF Media Signing, written and read. A second view; the journal is the evidence."""
