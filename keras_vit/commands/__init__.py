"""The commands of `keras-vit`: one module per command, and the modules that they share."""
