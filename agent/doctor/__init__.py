"""Is this device fit to record? Each file looks at one thing: a probe gathers facts, a judgement makes Checks."""
