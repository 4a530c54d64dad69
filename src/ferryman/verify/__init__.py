"""Pure: evidence in, findings or a verdict out; the mirror of assess."""
