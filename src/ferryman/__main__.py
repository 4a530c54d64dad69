"""Entry point: `ferryman …` or `python -m ferryman …`."""

import sys


def main() -> None:
    """Run the command line."""
    from ferryman.surfaces.cli import run

    sys.exit(run())


if __name__ == "__main__":
    main()
