"""`python -m megaportraits`: the command line."""

from megaportraits.cli import main

main()
