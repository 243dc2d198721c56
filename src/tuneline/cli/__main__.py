"""`python -m tuneline.cli` is `tuneline`."""

import sys

from tuneline.cli import main

if __name__ == "__main__":
    sys.exit(main())
