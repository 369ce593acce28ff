"""Where bytes live. `base` is the contract, `keys` the layout."""
