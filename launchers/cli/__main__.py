"""`python -m alignlaunch.launchers.cli`: the `alignlaunch` command, if its script is not on the PATH."""

from . import main

main(prog_name="alignlaunch")
