"""Runs the command line: ``python -m mmbert`` is the same as ``mmbert``."""

import sys

from mmbert.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
