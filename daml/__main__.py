"""Run the command line with ``python -m daml``."""

from daml.cli import main

main(prog_name="daml")
