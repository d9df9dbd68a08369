"""Run the command line with ``python -m daml``."""

from daml.cli import main

if __name__ == "__main__":  # a sweep's workers import this, too
    main(prog_name="daml")
