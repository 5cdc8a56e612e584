"""`python -m apr` and the `apr` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    from apr.cli import main as run_cli

    sys.exit(run_cli())


if __name__ == "__main__":
    main()
