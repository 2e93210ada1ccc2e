#!/usr/bin/env python3
"""Backups under load and kills: each is restored and compared with what was acknowledged.

    backup.py --backups 12 [--binary PATH] [--seed N]

Eight clients push, mount, retag and delete. Meanwhile `kelson backup` is run. Before and after it,
everything that the clients know is noted: what was acknowledged before it began and was not
touched until it ended must be in the restored store, byte for byte, and what was deleted must not.
The server is then killed with SIGKILL; every third time in the middle of the backup, and then
there must be either no new generation or a whole one. At the end of each round the backups are
verified, and each generation is restored into an empty root and served.

Exit status: 0 nothing lost, 1 something was lost, 2 the server did not come back.
"""
import argparse, json, os, random, signal, subprocess, sys, tempfile, time  # noqa: E401

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from crash import PUSHERS, Load  # noqa: E402
from model import Repository, Wrong  # noqa: E402
from registries import DidNotStart, Kelson, show_log  # noqa: E402
from verify import Verifier, verify  # noqa: E402

BACKUPS_PER_ROUND, PUSHES_BEFORE, COMMAND_LIMIT_S = 4, 12, 300


class Known:
    """What a client knows at a moment; `unsure` is what is under way around it."""

    def __init__(self, repository):
        unsure, unsure_tags = set(repository.unsure), set(repository.unsure_tags)
        self.documents, self.blobs = dict(repository.documents), dict(repository.blobs)
        self.deleted, self.tags = set(repository.deleted), dict(repository.tags)
        self.unsure = unsure | set(repository.unsure)
        self.unsure_tags = unsure_tags | set(repository.unsure_tags)


def know(repositories):
    return {repository.name: Known(repository) for repository in repositories}


def compare(registry, name, before, after):
    """One repository of a restored store: how much was compared, and what is wrong."""
    repository = Repository(name)
    repository.documents, repository.blobs = before.documents, before.blobs
    repository.tags = before.tags
    verifier = Verifier(registry, repository, True, 0)
    unsure, unsure_tags = before.unsure | after.unsure, before.unsure_tags | after.unsure_tags
    for digest in before.documents:
        if digest in after.documents and digest not in unsure:
            verifier.attempt(verifier.check_document, digest)
    for digest in before.deleted - after.documents.keys() - unsure:
        verifier.attempt(verifier.check_deleted, digest)
    for tag, at in before.tags.items():
        if tag not in unsure_tags and at not in unsure and after.tags.get(tag, "") == at:
            verifier.attempt(verifier.check_tag, tag)
    return verifier.checked, verifier.wrong


class Round:
    """One store, one directory of backups."""

    def __init__(self, binary, folder, log, chance):
        self.folder, self.log, self.chance = folder, log, chance
        self.registry = Kelson(binary, folder, log)
        self.backups = os.path.join(folder, "backups")
        self.repositories = [Repository(f"backup/p{n}") for n in range(PUSHERS)]
        self.known = {}     # generation -> what was known before and after
        self.figures = {"generations": 0, "cut": 0, "checks": 0, "lost": 0, "restore_ms_max": 0}

    def command(self, *arguments, root=None):
        environment = {**os.environ, **self.registry.environment()}
        environment["REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"] = root or self.registry.root
        return subprocess.Popen([self.registry.binary, *arguments], env=environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def must(self, *arguments, root=None):
        running = self.command(*arguments, root=root)
        out, error = running.communicate(timeout=COMMAND_LIMIT_S)
        if running.returncode:
            raise Wrong("lost", f"{arguments[0]} failed: {out[-500:]}{error}")
        return out

    def generations(self):
        try:
            names = os.listdir(os.path.join(self.backups, "generations"))
        except FileNotFoundError:
            return set()
        return {int(name.split(".")[0]) for name in names if name.endswith(".export")}

    def back_up(self, in_the_middle):
        """One backup under load, and a kill in its middle or after it."""
        load = Load(self.registry, self.repositories, self.chance)
        failed = load.wait_for(PUSHES_BEFORE)
        older, before = self.generations(), know(self.repositories)
        backup = self.command("backup", self.backups, "--json")
        if in_the_middle:
            time.sleep(self.chance.uniform(0.01, 0.4))
            load.stopping.set()
            self.registry.stop()
        out, error = backup.communicate(timeout=COMMAND_LIMIT_S)
        after = know(self.repositories)
        load.stopping.set()
        self.registry.stop()
        failures = load.end()[1] + ([failed] if failed else [])
        if failures:
            raise Wrong("refused", str(failures[:3]))
        new = self.generations() - older
        if not in_the_middle:
            if backup.returncode:
                raise Wrong("lost", f"the backup failed: {error}")
            if new != {json.loads(out.splitlines()[-1])["generation"]}:
                raise Wrong("lost", f"the backup told {out!r}, and made {new}")
        self.figures["cut"] += in_the_middle
        self.figures["generations"] += len(new)
        self.known.update({number: (before, after) for number in new})

    def restore(self, number):
        root = os.path.join(self.folder, f"restored-{number}", "store")
        began = time.monotonic()
        self.must("restore", self.backups, "--generation", str(number), root=root)
        took_ms = int((time.monotonic() - began) * 1000)
        self.figures["restore_ms_max"] = max(self.figures["restore_ms_max"], took_ms)
        restored = Kelson(self.registry.binary, os.path.dirname(root), self.log)
        restored.start()
        wrong = []
        before, after = self.known[number]
        try:
            for name in before:
                checked, found = compare(restored, name, before[name], after[name])
                self.figures["checks"] += checked
                wrong += [f"generation {number}: {one}" for one in found]
            if number < max(self.known) and not self.misses(restored, max(self.known)):
                wrong.append(f"generation {number} passes for the newest: nothing is compared")
        finally:
            restored.stop(signal.SIGTERM)
        return wrong

    def misses(self, restored, number):
        """Whether this store is found not to be that generation's."""
        before, after = self.known[number]
        return any(compare(restored, name, before[name], after[name])[1] for name in before)

    def run(self, count):
        wrong = []
        self.registry.start()
        for number in range(count):
            self.back_up(number % 3 == 2)
            self.registry.start()
            wrong += map(str, verify(self.registry, self.repositories, False, self.chance)[1])
        self.registry.stop(signal.SIGTERM)
        if self.known:
            self.must("backup", "verify", self.backups, "--read-data")
        for number in sorted(self.known):
            wrong += self.restore(number)
        return wrong


def one_round(args, chance, count, total):
    """What is wrong after so many backups; adds the figures to `total`."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "server.log")
        with open(path, "wb") as log:
            work = Round(args.binary, folder, log, chance)
            try:
                wrong = work.run(count)
            except Wrong as error:
                wrong = [str(error)]
            finally:
                work.registry.stop()
        work.figures["lost"] += len(wrong)
        for key, value in work.figures.items():
            old = total.get(key, 0)
            total[key] = max(old, value) if key.endswith("_max") else old + value
        if wrong:
            show_log(path)
        return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--backups", type=int, default=12)
    parser.add_argument("--binary", default="target/release/kelson")
    parser.add_argument("--seed", type=int, default=None, help="of the load; the kill is a race")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    chance, total, left, wrong = random.Random(seed), {}, args.backups, []
    while left > 0 and not wrong:
        count = min(left, BACKUPS_PER_ROUND)
        left -= count
        try:
            wrong = one_round(args, chance, count, total)
        except DidNotStart as error:
            print(error)
            return 2
        print(f"{args.backups - left} backups: {total}", flush=True)
        for line in wrong[:10]:
            print(f"  LOST {line}")
    print(f"RESULT backup backups={args.backups - left} "
          + " ".join(f"{key}={value}" for key, value in total.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
