"""``make fuzz``: python -m tests.fuzz [--count N] [--first N] [--keep FOLDER]."""

import argparse
import sys
from pathlib import Path

from tests.fuzz.fuzzing import fuzz


def main() -> int:
    """Fuzz, print the report, and return 1 if a file has no outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000, help="how many files")
    parser.add_argument("--first", type=int, default=0, help="number of the first file")
    parser.add_argument("--keep", type=Path, help="folder for files that end a decoder or have no outcome")
    arguments = parser.parse_args()
    report = fuzz(arguments.first, arguments.count, keep=arguments.keep)
    sys.stdout.write("\n".join(report.lines()) + "\n")
    return int(bool(report.faults) or report.left > 0)


if __name__ == "__main__":
    sys.exit(main())
