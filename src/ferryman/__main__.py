"""Entry point: `ferryman …` or `python -m ferryman …`."""

import os
import sys


def main() -> None:
    """Run the command line.

    Leaves without taking the interpreter down, which costs 0.2 s: every write is durable when its call returns, and locks
    and connections end with the process.
    """
    from ferryman.surfaces.cli import run

    code = run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
