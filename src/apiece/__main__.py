"""`python -m apiece`."""

from apiece.cli import main

main()
