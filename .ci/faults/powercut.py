#!/usr/bin/env python3
"""A power cut by the kernel under load: whatever was acknowledged must be on the device.

    powercut.py --rounds 10 [--systems ext4,xfs] [--modes flushed,dropped] [--binary PATH]

For each file system and mode one store on a loop device. In each round eight clients push as in
crash.py; at a random moment the file system is shut down underneath the server, which goes on for
a moment and must not acknowledge anything; it is killed, the file system unmounted and mounted
again, so that its journal is replayed, and the server started. Then everything acknowledged is
compared, images of earlier rounds too.

Exit status: 0 nothing lost, 1 something was lost, 2 it could not be run, or the server did not
come back.
"""
import argparse, os, random, subprocess, sys, tempfile, time  # noqa: E401

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crash import PUSHERS, Figures, Load, random_moment  # noqa: E402
from ground import FORMATS, MODES, Disk  # noqa: E402
from model import Repository, Wrong  # noqa: E402
from registries import DRIVERS, DidNotStart, show_log  # noqa: E402
from verify import check_staging, verify  # noqa: E402

FULL_CHECK_EVERY = 5


def may_refuse(pusher):
    pusher.may_refuse = True


def one_round(registry, disk, mode, repositories, chance):
    """Load, cut, restart: images, failures, milliseconds until ready."""
    began = time.monotonic()
    load = Load(registry, repositories, chance, may_refuse)
    failed = load.wait_for(4)
    random_moment(registry, began, chance, 0.100, 0.800)
    load.stopping.set()
    disk.cut(mode)
    time.sleep(chance.uniform(0.0, 0.100))
    registry.stop()
    pushes, failures = load.end()
    disk.restore()
    return pushes, failures + ([failed] if failed else []), registry.start()


def rounds(registry, disk, mode, count, chance, go_on=False, mutant=None):
    """The figures of so many rounds; they end at the first loss unless they are to go on."""
    repositories, figures = [Repository(f"crash/p{n}") for n in range(PUSHERS)], Figures()
    registry.start_new(mutant)
    for number in range(1, count + 1):
        try:
            pushes, failures, ready_ms = one_round(registry, disk, mode, repositories, chance)
        except DidNotStart as error:
            if not go_on:
                raise
            figures.wrong.append(Wrong("stuck", str(error)))
            break
        full = number % FULL_CHECK_EVERY == 0 or number == count
        checked, wrong = verify(registry, repositories, full, chance)
        if registry.resumes:
            wrong += check_staging(registry, repositories)
        wrong = [Wrong("refused", failure) for failure in failures] + wrong
        figures.kills += 1
        figures.add(pushes, checked, wrong, ready_ms)
        print(f"{disk.kind} {mode} round {number}: {pushes} pushes acknowledged, ready after "
              f"{ready_ms:.0f} ms, {checked} checked{' (everything)' if full else ''}, "
              f"{len(wrong)} wrong", flush=True)
        for line in wrong[:5]:
            print(f"  {line}")
        if wrong and not go_on:
            break
    registry.stop()
    figures.collected = sum(repository.collected for repository in repositories)
    return figures


def combination(args, kind, mode, folder, log):
    """The figures of one file system and mode."""
    disk = Disk(kind, folder)
    registry = DRIVERS[args.registry](args.binary, disk.path, log)
    try:
        return rounds(registry, disk, mode, args.rounds, random.Random(args.seed),
                      mutant=args.mutant)
    finally:
        registry.stop()
        disk.remove()


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--systems", default=",".join(FORMATS))
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--registry", choices=DRIVERS, default="kelson")
    parser.add_argument("--binary", default="target/release/kelson")
    parser.add_argument("--mutant", help="a promise that a build with failpoints is to break")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    return parser.parse_args()


def main():
    args = options()
    print(f"seed {args.seed}")
    total, status = Figures(), 0
    with tempfile.TemporaryDirectory() as folder:
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "wb") as log:
            for kind in args.systems.split(","):
                for mode in args.modes.split(","):
                    try:
                        total.merge(combination(args, kind, mode, folder, log))
                    except (DidNotStart, OSError, RuntimeError,
                            subprocess.CalledProcessError) as error:
                        print(f"{kind} {mode}: {error}")
                        status = 2
        print(f"RESULT powercut cuts={total.kills} {total.text()} collected={total.collected}")
        status = status or (1 if total.wrong else 0)
        if status:
            show_log(log_path)
    return status


if __name__ == "__main__":
    sys.exit(main())
