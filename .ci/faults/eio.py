#!/usr/bin/env python3
"""The device fails once: at the n-th sync, write or truncation of a thread, for n = 1, 2, ...

    eio.py [--starts 1-16] [--dirs 1-8] [--uploads 1-4] [--writes 1-4] [--truncates 1-3]
           [--brokens 1-4] [--binary PATH] [--seed N]

strace lets one system call of each of the server's threads fail with EIO instead of doing it: from
the start on (any sync), or once it serves (syncs of directories, those of uploads, writes,
truncations), or every sync from there on. Eight clients push, and try again what was answered
with an error. Then the server must be read-only (writes 503, reads 200, /readyz 503), or have
ended with an error, or, where only an upload's own file failed, still serve. The power is cut, so
that nothing is left that was not really synced, and whatever was acknowledged must be there. A
sync that failed must not have been tried again.

Exit status: 0 nothing lost and nothing silent, 1 otherwise, 2 it could not be run.
"""
import argparse, os, random, re, subprocess, sys, tempfile, time  # noqa: E401
from collections import Counter

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crash import PUSHERS, Figures, Load  # noqa: E402
from ground import Disk  # noqa: E402
from load import OCTETS, Client  # noqa: E402
from model import Cut, Repository, Upload, content, sha256  # noqa: E402
from registries import DidNotStart, Kelson, show_log  # noqa: E402
from verify import verify  # noqa: E402

SYNCS = "fsync,fdatasync"
# What fails, and whether only once the server serves; `broken` fails from the n-th on.
KINDS = {"start": (SYNCS, False), "dir": ("fsync", True), "upload": ("fdatasync", True),
         "write": ("pwrite64", True), "truncate": ("ftruncate", True), "broken": (SYNCS, True)}
REACH_LIMIT_S, AFTERWARDS_S = 2.5, 0.2
CALL = re.compile(r"^(\d+) +(?:(\w+)\((?:\d+<([^>]*)>|AT_FDCWD<[^>]*>, \"([^\"]*)\")"
                  r"|<\.\.\. \w+ resumed>)")


def events(trace):
    """(call, path, text, whether it begins, whether it ends) of each line about a file."""
    begun = {}
    with open(trace, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            found = CALL.match(line)
            if not found:
                continue
            thread, call, file, name = found.groups()
            begins, ends = call is not None, "unfinished ..." not in line
            if begins:
                begun[thread] = (call, (file or name).removesuffix(" (deleted)"))
            if thread in begun:
                yield *begun[thread], line, begins, ends


def failures(trace):
    """Paths whose call was made to fail, and those that were synced again after a failed sync.

    A file that was made anew, or cut back to what was durable before, is not what failed.
    """
    failed, unsynced, again = set(), set(), set()
    for call, path, text, begins, ends in events(trace):
        if call == "ftruncate" or (call == "openat" and "O_EXCL" in text):
            unsynced.discard(path)
        if call in SYNCS.split(",") and begins and path in unsynced:
            again.add(path)
        if ends and "INJECTED" in text:
            failed.add(path)
            if call in SYNCS.split(","):
                unsynced.add(path)
    return failed, again


class Trial:
    """One store on one disk; each run lets another call fail."""

    def __init__(self, binary, folder, log, chance):
        self.disk, self.chance = Disk("ext4", folder), chance
        self.registry = Kelson(binary, self.disk.path, log)
        self.repositories = [Repository(f"crash/p{n}") for n in range(PUSHERS)]
        self.trace, self.tracer = os.path.join(folder, "trace"), None
        self.figures, self.outcomes, self.wrong = Figures(), Counter(), []

    def prepare(self):
        """Some images from before, to be read later."""
        self.registry.start()
        load = Load(self.registry, self.repositories, self.chance)
        failed = load.wait_for(20)
        load.stopping.set()
        self.registry.stop()
        load.end()
        self.registry.start()
        wrong = verify(self.registry, self.repositories, True, self.chance)[1]
        self.registry.stop()
        self.wrong += [str(line) for line in wrong] + ([failed] if failed else [])

    def run(self, kind, number):
        """Lets the call fail, and looks at what the server makes of it."""
        calls, later = KINDS[kind]
        strace = ["strace", "-f", "-qq", "-y", "-o", self.trace,
                  "-e", f"trace={SYNCS},ftruncate,openat,{calls}",
                  "-e", f"inject={calls}:error=EIO:when={number}{'+' * (kind == 'broken')}"]
        self.registry.prefix = [] if later else [*strace, "-D", "--seccomp-bpf"]
        wrong, load = [], None
        try:
            self.registry.start()
            if later:
                self.attach(strace + self.scene(kind))
            load = Load(self.registry, self.repositories, self.chance, tolerant,
                        cuts_are_failures=False)
            self.wait()
            outcome = self.outcome(wrong)
        except DidNotStart:
            outcome = "did not start"
            if self.registry.process.poll() in (None, 0):
                wrong.append("the server did not start, and did not end with an error")
        failed, again = failures(self.trace)
        self.lose_power(load)
        wrong += [f"{path} was synced again after its sync failed" for path in sorted(again)]
        wrong += self.silent(calls, outcome, failed)
        self.check(kind, number, outcome if failed else "not reached", wrong)

    def attach(self, strace):
        """Watches the running server; ends with it."""
        pid = self.registry.process.pid
        open(self.trace, "wb").close()
        self.tracer = subprocess.Popen([*strace, "-p", str(pid)], stdin=subprocess.DEVNULL)
        limit = time.monotonic() + 10
        while time.monotonic() < limit:
            tasks = [f"/proc/{pid}/task/{task}/status" for task in os.listdir(f"/proc/{pid}/task")]
            if all("TracerPid:\t0\n" not in open(task, encoding="utf-8").read() for task in tasks):
                return
            time.sleep(0.01)
        raise RuntimeError("strace did not attach")

    def scene(self, kind):
        """What is to be there before the call fails; options that tell strace where it may."""
        if kind == "upload":
            names = self.begin_uploads(0)
            staging = self.registry.paths()[1]
            return [option for name in names
                    for option in ("-P", os.path.join(staging, name, "data"))]
        if kind == "truncate":      # an upload that goes on after a kill is cut to what is durable
            self.begin_uploads(100_000)
            self.registry.stop()
            self.registry.start()
        return []

    def begin_uploads(self, size):
        """An upload in each repository, with so many bytes so far; their names."""
        client, names = Client(self.registry.port), []
        for repository in self.repositories:
            _, headers, _ = client.must((202,), "POST", repository.path("blobs/uploads/"), b"")
            names.append(headers["Docker-Upload-UUID"])
            upload = Upload(headers["Location"], self.chance.getrandbits(64), 300_000)
            if size:
                part = content(upload.seed, upload.size)[:size]
                _, headers, _ = client.must((202,), "PATCH", upload.location, part, OCTETS)
                upload.location = headers["Location"]
            repository.upload = upload
        return names

    def wait(self):
        limit = time.monotonic() + REACH_LIMIT_S
        while time.monotonic() < limit and self.registry.process.poll() is None:
            if failures(self.trace)[0]:
                break
            time.sleep(0.05)
        time.sleep(AFTERWARDS_S)

    def outcome(self, wrong):
        """What the server is now; a mixture goes into `wrong`."""
        client, data = Client(self.registry.port), self.chance.randbytes(1000)
        try:
            ready = client.call("GET", "/readyz")[0]
            path = f"/v2/crash/probe/blobs/uploads/?digest={sha256(data)}"
            wrote = client.call("POST", path, data, OCTETS)[0]
            for repository in self.repositories[:3]:
                for digest in sorted(repository.documents.keys() - repository.unsure)[:3]:
                    read = client.call("GET", repository.path(f"manifests/{digest}"))[0]
                    if read != 200 and digest not in repository.deleted:
                        wrong.append(f"{digest} is read with {read}")
        except Cut:
            status = self.registry.stop(limit_s=5)
            if status == 0:
                wrong.append("the server ended without an error")
            return "ended"
        if (ready, wrote) == (503, 503):
            return "read-only"
        if (ready, wrote) == (200, 201):
            return "serving"
        wrong.append(f"/readyz says {ready}, a write is answered {wrote}")
        return "mixed"

    def silent(self, calls, outcome, failed):
        """Only an upload's own file may fail without consequences for the others."""
        shared = [path for path in failed if "/staging/" not in path]
        if calls in (SYNCS, "fsync") and outcome == "serving" and shared:
            return [f"the server goes on after the failed sync of {', '.join(shared)}"]
        return []

    def lose_power(self, load):
        self.disk.cut("dropped")
        self.registry.stop()
        if self.tracer:
            self.tracer.wait(timeout=30)
            self.tracer = None
        if load:
            load.end()
        self.disk.restore()

    def check(self, kind, number, outcome, wrong):
        self.registry.prefix, extra = [], self.registry.extra
        self.registry.extra = {}
        ready_ms = self.registry.start()
        checked, found = verify(self.registry, self.repositories, False, self.chance)
        self.registry.stop()
        self.registry.extra = extra
        wrong += [str(line) for line in found]
        self.figures.add(0, checked, found, ready_ms)
        self.outcomes[outcome] += 1
        self.wrong += wrong
        print(f"{kind} {number}: {outcome}, {checked} checked, {len(wrong)} wrong", flush=True)
        for line in wrong[:10]:
            print(f"  WRONG {line}")

    def end(self):
        self.registry.stop()
        self.disk.remove()


def tolerant(pusher):
    pusher.tolerant, pusher.retries, pusher.medium = True, True, 0.6


def numbers(text):
    """`1-3,7` is 1, 2, 3, 7."""
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def run(args, trial):
    trial.prepare()
    if args.mutant:
        trial.registry.extra["KELSON_MUTANT"] = args.mutant
    for kind in KINDS:
        for number in numbers(getattr(args, f"{kind}s")):
            trial.run(kind, number)
    outcomes = " ".join(f"{name.replace(' ', '_')}={count}"
                        for name, count in sorted(trial.outcomes.items()))
    print(f"RESULT eio runs={trial.outcomes.total()} {outcomes} checks={trial.figures.checks} "
          f"lost={trial.figures.count('lost')} corrupt={trial.figures.count('corrupt')} "
          f"wrong={len(trial.wrong)}")
    if not trial.outcomes["read-only"]:
        print("  WRONG no run made the server read-only: nothing was tested")
        return 1
    return 1 if trial.wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--starts", default="1-16,25,40")
    parser.add_argument("--dirs", default="1-8")
    parser.add_argument("--uploads", default="1-4")
    parser.add_argument("--writes", default="1-6,20")
    parser.add_argument("--truncates", default="1-3")
    parser.add_argument("--brokens", default="1-4,10")
    parser.add_argument("--mutant", help="a promise that a build with failpoints is to break")
    parser.add_argument("--binary", default="target/release/kelson")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    args = parser.parse_args()
    print(f"seed {args.seed}")
    with tempfile.TemporaryDirectory() as folder:
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "wb") as log:
            trial, status = Trial(args.binary, folder, log, random.Random(args.seed)), 2
            try:
                status = run(args, trial)
            except DidNotStart as error:
                print(error)
            finally:
                trial.end()
                if status:
                    show_log(log_path)
    return status


if __name__ == "__main__":
    sys.exit(main())
