"""The one decision maker: pure functions from (state, event, time) to (state, effects)."""
