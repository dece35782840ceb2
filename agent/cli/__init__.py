"""The `bodycam` command, one file a subcommand."""
