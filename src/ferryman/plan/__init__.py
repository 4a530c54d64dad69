"""Pure: who moves where, how and in what order."""
