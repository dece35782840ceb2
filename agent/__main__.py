"""`python -m agent` is `bodycam`."""

from agent.cli.main import main

if __name__ == "__main__":
    main()
