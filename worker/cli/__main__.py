"""`python -m worker.cli`: the command `onboard`, however it was installed."""

from worker.cli import main

main()
