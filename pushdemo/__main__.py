"""`python -m pushdemo` is the `pushdemo` command, of this Python."""

import sys

from pushdemo.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
