#!/usr/bin/env python3
"""Kill -9 and SIGTERM under load: whatever was acknowledged must be there after a restart.

    crash.py --kills 200 --stops 20 [--binary PATH] [--registry kelson] [--seed N]

One store for all cycles. In each, eight clients push images (small, large, chunked and mounted
blobs, new tags, moved tags, documents by digest), leave and cancel uploads, push unused blobs,
and delete. At a random moment, 20 to 400 ms after the first acknowledged pushes, the server is
killed with SIGKILL; now and then it is asked to stop with SIGTERM in the midst of a request,
and has to finish that. It is started again, and what was ever acknowledged is compared:
every tag with the document it points at, every document and blob byte for byte, every deleted
document and tag with 404, the list of tags of each repository. What a cut request would have
changed may be there or not, but never in part. A blob that nothing refers to is whole or 404.

A check after a restart covers this cycle and a sample of the rest; every fiftieth cycle, and the
last, the whole store.

Exit status: 0 nothing lost, 1 something was lost, 2 the server did not come back, 3 it came back
too slowly, or its collector never had anything to do.
"""
import argparse, os, random, signal, sys, tempfile, threading, time  # noqa: E401

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from load import Pusher, Straggler  # noqa: E402
from model import Repository, Wrong  # noqa: E402
from registries import DRIVERS, DidNotStart, show_log  # noqa: E402
from verify import check_staging, count_orphans, verify  # noqa: E402

PUSHERS, PUSH_LIMIT_S, DRAIN_LIMIT_S = 8, 60, 10
FULL_CHECK_EVERY, GC_EVERY = 50, 10
COLLECTING_SHARE = 0.3


class Load:
    """Eight pushers at work, as long as the server is there."""

    def __init__(self, registry, repositories, chance, shape=None, cuts_are_failures=True):
        repositories = repositories[:PUSHERS]
        self.acknowledged, self.stopping = threading.Semaphore(0), threading.Event()
        if not cuts_are_failures:
            self.stopping.set()
        self.pushers = [Pusher(registry, repository, chance.getrandbits(64), self.acknowledged,
                               self.stopping) for repository in repositories]
        for pusher in self.pushers:
            if shape:
                shape(pusher)
            pusher.start()

    def wait_for(self, pushes):
        """Until so many images were acknowledged; None, or why there are not."""
        limit = time.monotonic() + PUSH_LIMIT_S
        for _ in range(pushes):
            if not self.acknowledged.acquire(timeout=max(0, limit - time.monotonic())):
                failures = [p.failure for p in self.pushers if p.failure]
                return f"fewer than {pushes} pushes in {PUSH_LIMIT_S} s: {failures[:3]}"
        return None

    def end(self):
        """After the server ended: pushed images, and what failed."""
        for pusher in self.pushers:
            pusher.join(timeout=40)
        failures = [p.failure or "still running" for p in self.pushers
                    if p.failure or p.is_alive()]
        return sum(p.pushes for p in self.pushers), failures


def random_moment(registry, began, chance, first_s, last_s):
    """Waits for some time; now and then until the collector is at work, too: ages are whole
    seconds, so a second after `began`, the start, it has something to do."""
    if registry.collects and chance.random() < COLLECTING_SHARE:
        time.sleep(max(0.0, began + 1 - time.monotonic()))
    time.sleep(chance.uniform(first_s, last_s))


def kill(registry, repositories, chance):
    """One cycle that ends with SIGKILL: images, failures, milliseconds of the end."""
    began = time.monotonic()
    load = Load(registry, repositories, chance)
    failed = load.wait_for(2)
    random_moment(registry, began, chance, 0.020, 0.400)
    load.stopping.set()
    registry.stop()
    pushes, failures = load.end()
    return pushes, failures + ([failed] if failed else []), 0.0


def terminate(registry, repositories, chance):
    """One cycle that ends with SIGTERM in mid-push, after more than a second of uptime."""
    load = Load(registry, repositories, chance)
    repository = Repository(f"crash/straggler{len(repositories)}")
    repositories.append(repository)
    straggler = Straggler(registry, repository, chance.getrandbits(64), load.stopping)
    failed = load.wait_for(2)
    straggler.start()
    straggler.half_sent.wait(timeout=30)
    time.sleep(chance.uniform(0.6, 1.2))
    began = time.monotonic()
    load.stopping.set()
    status = registry.stop(signal.SIGTERM, DRAIN_LIMIT_S + 1)
    took_ms = (time.monotonic() - began) * 1000
    if status is None:
        failed = f"it did not stop within {DRAIN_LIMIT_S} s"
        registry.stop()
    elif status:
        failed = f"its exit status at SIGTERM is {status}"
    pushes, failures = load.end()
    straggler.join(timeout=40)
    return pushes, failures + [f for f in (failed, straggler.failure) if f], took_ms


class Figures:
    """What a run adds up to."""

    def __init__(self):
        self.pushes = self.checks = self.kills = self.stops = self.collected = 0
        self.ready_ms, self.stop_ms, self.wrong = [], [], []

    def add(self, pushes, checks, wrong, ready_ms):
        self.pushes, self.checks = self.pushes + pushes, self.checks + checks
        self.wrong += wrong
        self.ready_ms.append(ready_ms)

    def merge(self, other):
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def ready(self, share):
        """Milliseconds until ready, in that share of the starts."""
        ordered = sorted(self.ready_ms) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    def count(self, kind):
        """Images (or tags, or requests) of which something is wrong in this way."""
        return len({wrong.about for wrong in self.wrong if wrong.kind == kind})

    def text(self):
        return (f"pushes={self.pushes} checks={self.checks} lost={self.count('lost')} "
                f"corrupt={self.count('corrupt')} dangling={self.count('unpullable')} "
                f"revived={self.count('revived')} other={self.count('refused')} "
                f"staging_growth={self.count('staging')} uploads_lost={self.count('upload')} "
                f"ready_p50_ms={self.ready(0.5):.0f} ready_p99_ms={self.ready(0.99):.0f}")


def cycle(args, registry, repositories, chance, figures, number):
    """One cycle and its check; what is wrong after it."""
    stop_every = (args.kills + args.stops) // args.stops if args.stops else number + 1
    soft = figures.stops < args.stops and number % stop_every == 0
    pushes, failures, took_ms = (terminate if soft else kill)(registry, repositories, chance)
    figures.stops, figures.kills = figures.stops + soft, figures.kills + (not soft)
    if soft:
        figures.stop_ms.append(took_ms)
    if number % GC_EVERY == 0 and not soft:
        registry.gc()
    ready_ms = registry.start()
    full = number % FULL_CHECK_EVERY == 0 or number == args.kills + args.stops
    checked, wrong = verify(registry, repositories, full, chance)
    if registry.resumes:
        wrong += check_staging(registry, repositories)
    wrong = [Wrong("refused", failure) for failure in failures] + wrong
    figures.add(pushes, checked, wrong, ready_ms)
    print(f"cycle {number}: {'stopped' if soft else 'killed'}, {pushes} pushes acknowledged, ready "
          f"after {ready_ms:.0f} ms, {checked} checked{' (everything)' if full else ''}, "
          f"{len(wrong)} wrong", flush=True)
    for line in wrong[:10]:
        print(f"  {line}")
    return wrong


def campaign(args, registry, chance, go_on=False):
    """All cycles, or those up to the first loss: the figures, and what the pushers know."""
    repositories = [Repository(f"crash/p{n}") for n in range(PUSHERS)]
    figures = Figures()
    registry.start_new(args.mutant)
    for number in range(1, args.kills + args.stops + 1):
        try:
            wrong = cycle(args, registry, repositories, chance, figures, number)
        except DidNotStart as error:
            if not go_on:
                raise
            figures.wrong.append(Wrong("stuck", str(error)))
            break
        if wrong and not go_on:
            break
    return figures, repositories


def run(args, registry, chance):
    figures, repositories = campaign(args, registry, chance)
    report(figures, repositories, count_orphans(registry, repositories))
    slow = figures.ready(0.99)
    if figures.wrong:
        return 1
    if slow >= args.ready_limit_ms:
        print(f"  SLOW ready after {slow:.0f} ms (p99), the limit is {args.ready_limit_ms} ms")
        return 3
    if registry.collects and not sum(r.collected for r in repositories):
        print("  IDLE nothing was collected in the whole run: the collector was not tested")
        return 3
    return 0


def report(figures, repositories, orphans):
    print(f"RESULT crash kills={figures.kills} stops={figures.stops} {figures.text()} "
          f"stop_max_ms={max(figures.stop_ms, default=0):.0f} "
          f"collected={sum(r.collected for r in repositories)} "
          f"repushed={sum(r.repushed for r in repositories)} orphans={orphans}")


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--registry", choices=DRIVERS, default="kelson")
    parser.add_argument("--binary", default="target/release/kelson")
    parser.add_argument("--seed", type=int, default=None, help="of the load; the kill is a race")
    parser.add_argument("--mutant", help="a promise that a build with failpoints is to break")
    parser.add_argument("--ready-limit-ms", type=float, default=1000.0)
    return parser.parse_args()


def main():
    args = options()
    seed = args.seed if args.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    with tempfile.TemporaryDirectory() as folder:
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "wb") as log:
            registry = DRIVERS[args.registry](args.binary, folder, log)
            status = 2
            try:
                status = run(args, registry, random.Random(seed))
            except DidNotStart as error:
                print(error)
            finally:
                registry.stop()
                if status:
                    show_log(log_path)
    return status


if __name__ == "__main__":
    sys.exit(main())
