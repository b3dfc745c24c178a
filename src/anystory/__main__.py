"""`python -m anystory` is the `anystory` command."""

from anystory.cli import main

main()
