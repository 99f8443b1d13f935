"""Published weight files: how they are read, how their names map to ours, and how they are made to fit."""
