#!/usr/bin/env python3
"""Kelson and another registry through the same kills and power cuts, with the same seed.

    peers.py --kills 100 --rounds 25 --peer PATH --peer-version v3.1.1 [--binary PATH] [--seed N]

Prints a table and the same as JSON. Nothing stops at a loss: what was found wrong once is taken
out of what is expected, so that each image is counted once. The peer's garbage collector runs
while it is down, as its manual wants it.

Exit status: 0 if Kelson lost nothing, 1 if it did, 2 if the comparison could not be run.
"""
import argparse, json, os, random, sys, tempfile  # noqa: E401

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crash import Figures, campaign  # noqa: E402
from ground import FORMATS, MODES, Disk  # noqa: E402
from powercut import rounds  # noqa: E402
from registries import Distribution, Kelson  # noqa: E402

KINDS = ["lost", "corrupt", "unpullable", "revived", "refused", "stuck"]
HEAD = ["test", "registry", "kills or cuts", "images acknowledged", "lost", "corrupt",
        "listed, not pullable", "revived", "wrongly refused", "does not start"]


def kills(args, driver, binary, folder, log):
    registry = driver(binary, folder, log)
    try:
        return campaign(args, registry, random.Random(args.seed), go_on=True)[0]
    finally:
        registry.stop()


def cuts(args, driver, binary, folder, log, kind, mode):
    disk = Disk(kind, folder)
    registry = driver(binary, disk.path, log)
    try:
        return rounds(registry, disk, mode, args.rounds, random.Random(args.seed), go_on=True)
    finally:
        registry.stop()
        disk.remove()


def compare(args, log):
    """(test, registry, figures) of everything."""
    subjects = [("kelson", Kelson, args.binary),
                (f"distribution {args.peer_version}", Distribution, args.peer)]
    tests = [("kill -9", kills, ())]
    tests += [(f"power cut, {kind}, journal {mode}", cuts, (kind, mode))
              for kind in FORMATS for mode in MODES]
    for title, test, more in tests:
        for name, driver, binary in subjects:
            print(f"== {title}: {name}", flush=True)
            with tempfile.TemporaryDirectory() as folder:
                yield title, name, test(args, driver, binary, folder, log, *more)


def row(title, name, figures: Figures):
    values = {"test": title, "registry": name, "cycles": figures.kills + figures.stops,
              "pushes": figures.pushes, **{kind: figures.count(kind) for kind in KINDS}}
    return values


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--peer", required=True)
    parser.add_argument("--peer-version", required=True)
    parser.add_argument("--binary", default="target/release/kelson")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    args = parser.parse_args()
    args.stops, args.mutant = 0, None
    print(f"seed {args.seed}")
    with tempfile.TemporaryFile() as log:
        rows = [row(*found) for found in compare(args, log)]
    print(f"| {' | '.join(HEAD)} |")
    print(f"|{'---|' * len(HEAD)}")
    for values in rows:
        print(f"| {' | '.join(str(value) for value in values.values())} |")
    print(json.dumps({"seed": args.seed, "rows": rows}, indent=1))
    for values in rows:
        print("RESULT peers " + " ".join(f"{name}={str(value).replace(' ', '_')}"
                                         for name, value in values.items()))
    lost = sum(values[kind] for values in rows if values["registry"] == "kelson" for kind in KINDS)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
