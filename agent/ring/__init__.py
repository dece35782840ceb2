"""The packet ring: pre-event buffer and write backlog in one."""
