"""`python -m apiece`."""

import sys

try:
    from apiece.cli import main
except KeyboardInterrupt:  # while modules are loaded
    print("apiece: interrupted", file=sys.stderr)
    sys.exit(130)

main()
