"""Nouns: frozen, plain, no input or output."""
