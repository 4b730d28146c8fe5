"""python -m relay: the same commands as after-hours; without one it serves."""

import sys

from relay.commands import main

if __name__ == "__main__":
    main(sys.argv[1:] or ["serve"], prog_name="python -m relay")
