"""What `keras-vit` does: one module a command, and the pieces that they share."""
