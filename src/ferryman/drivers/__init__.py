"""The outside world, one module or folder per thing."""
