"""`python -m physim`."""

from physim.cli import main

main()
