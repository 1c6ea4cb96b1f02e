"""Where tasks run, in what pieces, and what is tried again: workers on this machine, or jobs of Slurm."""
