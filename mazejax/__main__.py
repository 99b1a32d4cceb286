"""`python -m mazejax` is the `mazejax` command."""

import sys

from mazejax.cli import main

if __name__ == "__main__":
    sys.exit(main())
