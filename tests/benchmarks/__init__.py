"""`make benchmark`: the agent against its bars, and against ffmpeg in the same run. See docs/benchmarks.md."""
