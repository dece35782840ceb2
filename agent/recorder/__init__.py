"""From packets in the ring to durable, checkpointed fragments."""
