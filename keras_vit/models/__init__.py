"""Architectures, and what can be read from a finished model or changed in it."""
