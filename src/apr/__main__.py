"""`python -m apr` and the `apr` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        from apr.cli import main as run_cli
    except KeyboardInterrupt:
        sys.stderr.write("apr: interrupted\n")
        sys.exit(130)  # as `apr.cli` has it, which is not there yet
    sys.exit(run_cli())


if __name__ == "__main__":
    main()
