"""``python -m mmbert`` is ``mmbert``."""

import sys

from mmbert.cli.commands import main

if __name__ == "__main__":
    sys.exit(main())
