"""scripts/fuzz: N inputs over all parsers, a table, and exit code 1 where one fails."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from fuzz.parsers import PARSERS, SCRATCH
from fuzz.runner import fuzz, replay, shares

KEPT = Path(".fuzz")


def main() -> int:
    """Run the fuzzers that the command line asks for; the exit code."""
    options = _options()
    parsers = [one for one in PARSERS if options.only is None or options.only in one.name]
    if not parsers:
        print(f"no parser {options.only}: {', '.join(one.name for one in PARSERS)}")
        return 2
    if options.replay is not None:
        tally = replay(parsers[0], options.replay.read_bytes())
        print(tally.failures[0][1] if tally.failures else f"{parsers[0].name}: fine")
        return 1 if tally.failures else 0
    begun, inputs, failed = time.process_time(), 0, 0
    print(f"| {'parser':27} | {'inputs':>9} | accepted | refused | slowest, ms |")
    print(f"| {'-' * 27} | {'-' * 8}: | -------: | ------: | ----------: |")
    for parser, count in zip(parsers, shares(parsers, options.inputs), strict=True):
        tally = fuzz(parser, count, seed=options.seed, trace=SCRATCH / "input")
        inputs += tally.inputs
        failed += len(tally.failures)
        total = tally.inputs
        print(
            f"| {parser.name:27} | {total:9,} | {tally.accepted / total:8.0%} | "
            f"{tally.refused / total:7.0%} | {tally.slowest * 1e3:11.1f} |",
            flush=True,
        )
        if options.times:
            print(f"  {tally.seconds / total * 1e6:.0f} us of CPU each, {tally.seconds:.1f} s")
        for number, (data, problem) in enumerate(tally.failures):
            KEPT.mkdir(exist_ok=True)
            kept = KEPT / f"{parser.name}-{options.seed}-{number}".replace("/", "-").replace(
                " ", "-"
            )
            kept.write_bytes(data)
            print(f"FAILED, kept in {kept}: {data[:200]!r}\n{problem}", flush=True)
    seconds = time.process_time() - begun
    print(f"{inputs:,} inputs, {len(parsers)} parsers, {failed} failures, {seconds:,.0f} CPU-s")
    return 1 if failed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("inputs", type=int, nargs="?", default=10_000, help="how many inputs")
    parser.add_argument("--only", help="the parsers whose names hold this")
    parser.add_argument("--seed", type=int, default=0, help="other inputs for another seed")
    parser.add_argument("--replay", type=Path, help="give one kept input to the parser --only")
    parser.add_argument("--times", action="store_true", help="also print the time of each parser")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
