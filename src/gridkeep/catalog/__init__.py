"""Where runs, experiments and artifacts are recorded. `base` is the contract."""
