"""Keys, certificates and the detached CMS signature of records."""
