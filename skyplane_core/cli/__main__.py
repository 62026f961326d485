"""``python -m skyplane_core.cli``, where the console script is not on PATH."""

from skyplane_core.cli.main import main

main()
