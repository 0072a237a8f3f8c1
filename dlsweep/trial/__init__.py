"""One trial in its own process: check the config, seed, train, write the result."""
