"""bodycam-agent: the brain of a body-worn camera that a stranger can check with stock tools."""

__version__ = "0.1.0"
