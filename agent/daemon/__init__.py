"""`bodycam run`: the parts wired together."""
