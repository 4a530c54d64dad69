"""Pure: outcomes in, words and numbers out."""
