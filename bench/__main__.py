"""`./dev bench [NAME …] [--pairs N] [--json FILE]`."""

import argparse
import sys
from pathlib import Path

from bench import cold, demo, live, prepare, start, warm
from bench.rows import Row, in_the_terminal, publish, write_rows

BENCHES = {
    "live": live.measure,
    "cold": cold.measure,
    "warm": warm.measure,
    "start": start.measure,
    "prepare": prepare.measure,
    "demo": demo.measure,
}
PAIRS = {"live": 9, "cold": 5, "warm": 5, "start": 15, "prepare": 5, "demo": 5}


def main() -> int:
    """Run benches; exit code 1 when a bar is not met."""
    parser = argparse.ArgumentParser(prog="./dev bench", description="ferryman beside its peers, in pairs, on the lab.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHES)}; all when none is named")
    parser.add_argument(
        "--pairs", type=int, help="how many; default: " + ", ".join(f"{name} {n}" for name, n in PAIRS.items())
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there, and leave docs/ as it is")
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHES):
        parser.error(f"no bench {', '.join(sorted(unknown))}: there are {', '.join(BENCHES)}")
    rows: list[Row] = []
    for name in options.names or BENCHES:
        result = BENCHES[name](options.pairs or PAIRS[name])
        rows += result.rows
        print(in_the_terminal(result.rows), flush=True)
        if options.json is None:
            publish(result)
    if options.json is not None:
        write_rows(rows, options.json)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
