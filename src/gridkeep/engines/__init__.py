"""Where supervisors are executed. `base` is the contract."""
