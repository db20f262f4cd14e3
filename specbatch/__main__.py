"""`python -m specbatch` is `specbatch`."""

import sys

from specbatch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
