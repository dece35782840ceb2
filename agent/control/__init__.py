"""The Unix control socket between `run` and everything else."""
