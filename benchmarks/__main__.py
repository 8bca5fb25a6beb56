"""``python -m benchmarks [--only NAME,…] [--json]``: run benchmarks and print one line each."""

import argparse
import json
import sys

from benchmarks.registry import benchmarks


def main() -> int:
    """Exit code 0 when every benchmark that ran found both sides in agreement, 1 otherwise, 2 for an unknown name."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="names or their beginnings, separated by commas")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    options = parser.parse_args()
    found = benchmarks()
    wanted = [part.strip() for part in options.only.split(",") if part.strip()]
    chosen = {name: run for name, run in found.items() if not wanted or any(name.startswith(part) for part in wanted)}
    if not chosen:
        print(f"no benchmark begins with {options.only!r}; there are: {', '.join(found)}", file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(chosen))
        return 0
    good = True
    for name, run in chosen.items():
        for result in run(name):
            good = good and result.agrees
            print(json.dumps(result.line()) if options.json else result.sentence(), flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
