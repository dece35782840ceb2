"""The folder tree on flash: filesystem seam, layout, records, journal, lock."""
