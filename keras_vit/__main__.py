"""The command line as `python -m keras_vit`."""

from keras_vit.commands.cli import main

main(prog_name="python -m keras_vit")
