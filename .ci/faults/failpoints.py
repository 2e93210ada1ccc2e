#!/usr/bin/env python3
"""A kill at every named place of the write path in turn, under the load of crash.py.

    failpoints.py --binary PATH [--times 1] [--only sync-data] [--seed N]

PATH is a build with the feature `failpoints`: it lists its failpoints, and dies at the one that
KELSON_FAILPOINT names. Those of the first start are tried on a store of their own, all others on
one store throughout. After each death the server is started again, and what was acknowledged is
compared as in crash.py. A failpoint that is never reached is a failure, too.

Exit status: 0 all reached and nothing lost, 1 otherwise, 2 the server did not come back.
"""
import argparse, os, random, signal, subprocess, sys, tempfile, time  # noqa: E401

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crash import PUSHERS, Figures, Load  # noqa: E402
from load import Pusher  # noqa: E402
from model import Repository  # noqa: E402
from registries import DidNotStart, Kelson, show_log  # noqa: E402
from verify import check_staging, verify  # noqa: E402

VARIABLE = "KELSON_FAILPOINT"
LATEST = 6              # the n-th pass of a failpoint is drawn up to this one
DEATH_LIMITS_S = (4, 8, 20)


def listed(binary):
    """(name, when) of each failpoint."""
    text = subprocess.run([binary, "failpoints"], check=True, capture_output=True, text=True)
    return [tuple(line.split()) for line in text.stdout.splitlines()]


class Store:
    """A store and what its pushers know of it."""

    def __init__(self, binary, folder, log):
        os.makedirs(folder, exist_ok=True)
        self.registry = Kelson(binary, folder, log)
        self.repositories = [Repository(f"crash/p{n}") for n in range(PUSHERS)]

    def shape(self, pusher: Pusher):
        pusher.plant, pusher.large = self.registry.plant, 0.05

    def die_at(self, failpoint, limit_s, chance):
        """Whether the server died there within the limit, at its start or under load."""
        registry = self.registry
        registry.extra = {VARIABLE: failpoint}
        load = None
        try:
            registry.start()
            load = Load(registry, self.repositories, chance, self.shape, cuts_are_failures=False)
            limit = time.monotonic() + limit_s
            while registry.process.poll() is None and time.monotonic() < limit:
                time.sleep(0.005)
        except DidNotStart:
            pass
        died = registry.process.poll()
        registry.stop()
        registry.extra = {}
        failures = load.end()[1] if load else []
        if died not in (None, -signal.SIGKILL):
            failures.append(f"the server ended with status {died}")
        return died == -signal.SIGKILL, failures

    def check(self, chance, full=False):
        """Starts it again and compares; what is wrong, how much was compared."""
        ready_ms = self.registry.start()
        checked, wrong = verify(self.registry, self.repositories, full, chance)
        wrong += check_staging(self.registry, self.repositories)
        self.registry.stop()
        return [str(line) for line in wrong], checked, ready_ms


def attempts(when, chance):
    """(n, limit in seconds, whether on a new store), until the failpoint is reached."""
    if when == "first-start":
        return [(1, DEATH_LIMITS_S[0], True)]
    if when == "start":
        return [(1, DEATH_LIMITS_S[0], False)]
    first, second, third = DEATH_LIMITS_S
    return [(chance.randint(1, LATEST), first, False), (1, second, True), (1, third, False)]


class Walk:
    """The walk over all failpoints."""

    def __init__(self, args, folder, log):
        self.args, self.folder, self.log = args, folder, log
        self.chance = random.Random(args.seed)
        self.common = Store(args.binary, os.path.join(folder, "common"), log)
        self.figures, self.reached, self.wrong, self.stores = Figures(), 0, [], 0

    def visit(self, name, when):
        """Dies at one failpoint, and checks what is left."""
        for count, limit_s, new in attempts(when, self.chance):
            store = self.new_store() if new else self.common
            died, wrong = store.die_at(f"{name}/{count}", limit_s, self.chance)
            found, checked, ready_ms = store.check(self.chance)
            wrong += found
            self.figures.checks += checked
            self.figures.ready_ms.append(ready_ms)
            print(f"{name}/{count}: {'died' if died else 'not reached'}"
                  f"{' on a new store' if new else ''}, ready after {ready_ms:.0f} ms, "
                  f"{checked} checked, {len(wrong)} wrong", flush=True)
            self.wrong += wrong
            for line in wrong[:10]:
                print(f"  {line}")
            if died:
                self.reached += 1
                return
        self.wrong.append(f"{name} was never reached")
        print(f"  NEVER REACHED {name}")

    def new_store(self):
        self.stores += 1
        return Store(self.args.binary, os.path.join(self.folder, str(self.stores)), self.log)

    def run(self):
        points = [point for point in listed(self.args.binary) if self.args.only in point[0]]
        self.common.registry.start()
        self.common.registry.stop()
        for _ in range(self.args.times):
            for name, when in points:
                self.visit(name, when)
        found, checked, _ = self.common.check(self.chance, full=True)
        self.wrong += found
        ready = self.figures.ready(0.99)
        print(f"RESULT failpoints points={len(points)} deaths={self.reached} "
              f"checks={self.figures.checks + checked} wrong={len(self.wrong)} "
              f"ready_p99_ms={ready:.0f}")
        complete = self.reached == len(points) * self.args.times > 0
        return 0 if complete and not self.wrong else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--only", default="", help="failpoints whose name contains this")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory() as folder:
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "wb") as log:
            walk, status = Walk(args, folder, log), 2
            try:
                status = walk.run()
            except DidNotStart as error:
                print(error)
            finally:
                walk.common.registry.stop()
                if status:
                    show_log(log_path)
    return status


if __name__ == "__main__":
    sys.exit(main())
