"""Run the command line as ``python -m integrationd``."""

from integrationd.cli import main

main()
