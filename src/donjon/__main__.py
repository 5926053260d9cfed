"""``python -m donjon`` is the ``donjon`` command."""

import sys

from donjon.cli import main

if __name__ == "__main__":
    sys.exit(main())
