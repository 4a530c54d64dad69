"""ferryman beside its peers, in pairs, on the lab. Every figure is a file that a command reproduces."""
