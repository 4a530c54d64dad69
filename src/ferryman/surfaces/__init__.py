"""Where people and programs meet ferryman."""
