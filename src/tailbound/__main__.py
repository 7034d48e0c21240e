"""`python -m tailbound`: the command line."""

from tailbound.cli import main

main()
