#!/usr/bin/env python3
"""Kill -9 under load: whatever was acknowledged before the kill must be there after a restart.

    crash.py --cycles 50 [--binary PATH | --command "registry serve config.yml"] [--seed N]

One store for all cycles. In each, eight clients push images (small, large, chunked and mounted
blobs, new tags, moved tags, documents by digest) and delete some of them again. At a random
moment 20 to 400 ms after at least twenty pushes were acknowledged the server is killed with
SIGKILL and started again. Then everything that was ever acknowledged is compared: every tag
with the document it points at, every document and blob byte for byte, every deleted document
and tag with 404, the tag list of each repository. What a cut request would have changed may be
there or not, but never in part: a tag is at its old or its new place, and what is there is whole.

The check after a restart covers this cycle and the ones since the last full check in detail,
and every tenth cycle (and the last) the whole store.

Exit status: 0 nothing lost, 1 something was lost, 2 the server did not come back.
"""
import argparse, hashlib, http.client, json, os, random, shlex, signal, socket  # noqa: E401
import subprocess, sys, tempfile, threading, time  # noqa: E401

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
PUSHERS, ACKNOWLEDGED_BEFORE_KILL = 8, 20
START_LIMIT_S, PUSH_LIMIT_S = 30, 60


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def content(seed, size):
    """Bytes that can be made again from their seed, so that memory holds no layer."""
    return random.Random(seed).randbytes(size)


def free_port():
    """A free port below those that the kernel gives to clients: while the server is down a
    connection attempt from its very port would meet itself, and hold the port."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Lost(Exception):
    """Something acknowledged is not there, or not as it was."""


class Cut(Exception):
    """The server went away in the middle of a request: its effect is unknown."""


class Client:
    """One keep-alive connection."""

    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def call(self, method, path, body=None, headers=None):
        try:
            accept = {"Accept": OCI_MANIFEST}
            self.http.request(method, path, body=body, headers={**accept, **(headers or {})})
            response = self.http.getresponse()
            return response.status, response.headers, response.read()
        except (OSError, http.client.HTTPException) as error:
            self.http.close()
            raise Cut(f"{method} {path}: {error!r}") from error

    def must(self, wanted, method, path, body=None, headers=None):
        status, got, text = self.call(method, path, body, headers)
        if status not in wanted:
            raise Lost(f"{method} {path} answered {status}, not {wanted}: {text[:200]!r}")
        return status, got, text


class Repository:
    """What one pusher knows about its repository; only its own thread changes it."""

    def __init__(self, name):
        self.name = name
        self.blobs = {}         # digest -> (seed, size): acknowledged
        self.documents = {}     # digest -> bytes: acknowledged
        self.deleted = set()    # digests of documents whose deletion was acknowledged
        self.tags = {}          # tag -> digest, or None when its deletion was acknowledged
        self.unsure_tags = {}   # tag -> digests (or None) that it may have now
        self.unsure = set()     # digests of documents that may be there or not
        self.recent = set()     # digests of documents since the last full check
        self.recent_tags = set()

    def path(self, rest):
        return f"/v2/{self.name}/{rest}"


class Pusher(threading.Thread):
    """Pushes images into one repository until the server goes away."""

    def __init__(self, port, repository, seed, acknowledged, killed):
        super().__init__(daemon=True)
        self.killed = killed
        self.client, self.repo, self.random = Client(port), repository, random.Random(seed)
        self.acknowledged, self.failure, self.pushes = acknowledged, None, 0

    def run(self):
        try:
            while True:
                self.push_image()
        except Cut as error:
            if not self.killed.is_set():
                self.failure = f"cut before the kill: {error}"
        except Exception as error:  # noqa: BLE001 - reported by the main thread
            self.failure = f"{type(error).__name__}: {error}"

    # -- blobs

    def push_blob(self, size):
        seed = self.random.getrandbits(64)
        data = content(seed, size)
        digest = sha256(data)
        how = self.random.choice(["at once", "put", "patch", "chunks"])
        uploads = self.repo.path("blobs/uploads/")
        kind = {"Content-Type": "application/octet-stream"}
        if how == "at once":
            status, headers, _ = self.client.must(
                (201, 202), "POST", f"{uploads}?digest={digest}", data, kind)
            if status == 202:   # a registry that knows no single POST
                self.finish(headers["Location"], digest, data)
        else:
            _, headers, _ = self.client.must((202,), "POST", uploads, b"")
            self.session(headers["Location"], digest, data, how, kind)
        self.repo.blobs[digest] = (seed, size)
        return digest

    def session(self, location, digest, data, how, kind):
        if how == "put":
            return self.finish(location, digest, data)
        steps = [len(data)] if how == "patch" else sorted(
            {self.random.randrange(1, len(data)), len(data)})
        start = 0
        for end in steps:
            ranges = {"Content-Range": f"{start}-{end - 1}"} if how == "chunks" else {}
            _, headers, _ = self.client.must(
                (202,), "PATCH", location, data[start:end], {**kind, **ranges})
            location, start = headers["Location"], end
        return self.finish(location, digest, b"")

    def finish(self, location, digest, data):
        joint = "&" if "?" in location else "?"
        self.client.must((201,), "PUT", f"{location}{joint}digest={digest}", data,
                         {"Content-Type": "application/octet-stream"})

    def reuse_blob(self):
        """A blob of an earlier image, pushed to a second repository by a mount."""
        digest = self.random.choice(list(self.repo.blobs))
        other = f"{self.repo.name}/mounted"
        status, headers, _ = self.client.must(
            (201, 202), "POST",
            f"/v2/{other}/blobs/uploads/?mount={digest}&from={self.repo.name}", b"")
        if status == 202:
            raise Lost(f"mount of {digest} from {self.repo.name} was refused")
        self.client.must((200,), "HEAD", f"/v2/{other}/blobs/{digest}")
        return digest

    # -- documents

    def push_image(self):
        draw = self.random.random()
        sizes = [self.random.randrange(1, 20_000) for _ in range(self.random.randrange(1, 4))]
        if draw < 0.15:
            sizes.append(200_000)
        layers = [(self.push_blob(size), size) for size in sizes]
        if draw > 0.9 and self.repo.blobs:
            digest = self.reuse_blob()
            layers.append((digest, self.repo.blobs[digest][1]))
        config = self.push_blob(self.random.randrange(100, 3000))
        document = json.dumps({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": OCI_CONFIG, "digest": config,
                       "size": self.repo.blobs[config][1]},
            "layers": [{"mediaType": OCI_LAYER, "digest": d, "size": s} for d, s in layers],
        }).encode()
        tag = self.pick_tag()
        self.put_document(document, tag)
        self.pushes += 1
        self.acknowledged.release()
        if draw < 0.1 and len(self.repo.documents) > 3:
            self.delete_document()
        elif draw < 0.2 and len(self.repo.tags) > 3:
            self.delete_tag()

    def pick_tag(self):
        draw = self.random.random()
        live = [tag for tag, digest in self.repo.tags.items() if digest]
        if draw < 0.1:
            return None         # by digest alone
        if draw < 0.3 and live:
            return self.random.choice(live)
        return f"t{len(self.repo.tags) + len(self.repo.unsure_tags)}-{self.random.randrange(1000)}"

    def put_document(self, document, tag):
        repo, digest = self.repo, sha256(document)
        old = repo.tags.get(tag)
        repo.unsure.add(digest)
        repo.recent.add(digest)
        repo.documents[digest] = document
        if tag:
            repo.unsure_tags[tag] = {old, digest}
            repo.recent_tags.add(tag)
        self.client.must((201,), "PUT", repo.path(f"manifests/{tag or digest}"), document,
                         {"Content-Type": OCI_MANIFEST})
        repo.unsure.discard(digest)
        if tag:
            del repo.unsure_tags[tag]
            repo.tags[tag] = digest

    def delete_document(self):
        repo = self.repo
        digest = self.random.choice([d for d in repo.documents if d not in repo.unsure])
        tags = [tag for tag, at in repo.tags.items() if at == digest]
        repo.unsure.add(digest)
        repo.recent.add(digest)
        repo.unsure_tags.update({tag: {digest, None} for tag in tags})
        repo.recent_tags.update(tags)
        self.client.must((202,), "DELETE", repo.path(f"manifests/{digest}"))
        repo.unsure.discard(digest)
        del repo.documents[digest]
        repo.deleted.add(digest)
        for tag in tags:
            del repo.unsure_tags[tag]
            repo.tags[tag] = None

    def delete_tag(self):
        repo = self.repo
        live = [tag for tag, digest in repo.tags.items() if digest]
        if not live:
            return
        tag = self.random.choice(live)
        repo.unsure_tags[tag] = {repo.tags[tag], None}
        repo.recent_tags.add(tag)
        self.client.must((202,), "DELETE", repo.path(f"manifests/{tag}"))
        del repo.unsure_tags[tag]
        repo.tags[tag] = None


class Verifier:
    """Compares one repository with what its pusher knows."""

    def __init__(self, port, repository, full):
        self.client, self.repo, self.full, self.lost = Client(port), repository, full, []
        self.checked = 0

    def run(self):
        self.settle()
        checks = [(self.check_tag, tag) for tag in self.pick(self.repo.tags, self.repo.recent_tags)]
        checks += [(self.check_document, d)
                   for d in self.pick(self.repo.documents, self.repo.recent)]
        checks += [(self.check_deleted, d) for d in self.pick(self.repo.deleted, self.repo.recent)]
        checks.append((self.check_list, None))
        for check, item in checks:
            self.checked += 1
            try:
                check(item)
            except Lost as error:
                self.lost.append(f"{self.repo.name}: {error}")
        if self.full:
            self.repo.recent.clear()
            self.repo.recent_tags.clear()

    def pick(self, everything, recent):
        return sorted(everything if self.full else recent.intersection(everything))

    def settle(self):
        """Finds out which of its two possible outcomes each cut request had."""
        repo, there = self.repo, {}
        for digest in sorted(repo.unsure):
            status, _, body = self.client.call("GET", repo.path(f"manifests/{digest}"))
            there[digest] = status == 200
            if status == 404:
                repo.documents.pop(digest, None)
                repo.deleted.add(digest)
            elif status != 200 or body != repo.documents[digest]:
                self.lost.append(f"{repo.name}: cut document {digest} is there in part: {status}")
        repo.unsure.clear()
        for tag, possible in sorted(repo.unsure_tags.items()):
            status, headers, _ = self.client.call("GET", repo.path(f"manifests/{tag}"))
            digest = headers["Docker-Content-Digest"] if status == 200 else None
            if status not in (200, 404) or digest not in possible:
                self.lost.append(f"{repo.name}: cut tag {tag} is {status} {digest}, of {possible}")
            for one in possible.intersection(there):
                if (digest == one) != there[one]:
                    self.lost.append(f"{repo.name}: {one} and its tag {tag} changed apart")
            repo.tags[tag] = digest
        repo.unsure_tags.clear()

    def check_tag(self, tag):
        wanted = self.repo.tags[tag]
        path = self.repo.path(f"manifests/{tag}")
        if wanted is None:
            self.client.must((404,), "GET", path)
            return
        _, _, body = self.client.must((200,), "GET", path)
        if body != self.repo.documents.get(wanted):
            raise Lost(f"tag {tag} is not {wanted} but {sha256(body)}")

    def check_document(self, digest):
        document = self.repo.documents[digest]
        _, _, body = self.client.must((200,), "GET", self.repo.path(f"manifests/{digest}"))
        if body != document:
            raise Lost(f"document {digest} has other bytes")
        parsed = json.loads(document)
        for part in [parsed["config"], *parsed["layers"]]:
            _, _, body = self.client.must((200,), "GET", self.repo.path(f"blobs/{part['digest']}"))
            if body != content(*self.repo.blobs[part["digest"]]):
                raise Lost(f"blob {part['digest']} of {digest} has other bytes")

    def check_deleted(self, digest):
        self.client.must((404,), "GET", self.repo.path(f"manifests/{digest}"))

    def check_list(self, _):
        wanted = sorted(tag for tag, digest in self.repo.tags.items() if digest)
        status, got, path = 200, [], self.repo.path("tags/list")
        while path and status == 200:
            status, headers, body = self.client.call("GET", path)
            got += json.loads(body).get("tags") or [] if status == 200 else []
            link = headers.get("Link")
            path = link.split(">")[0].lstrip(" <") if link else None
        if sorted(got) != wanted and (wanted or status != 404):
            raise Lost(f"tag list: missing {sorted(set(wanted) - set(got))[:5]}, "
                       f"unexpected {sorted(set(got) - set(wanted))[:5]}")


class Server:
    """The server under test, in a process of its own, on one store."""

    def __init__(self, command, root, log):
        self.command, self.root, self.log, self.process = command, root, log, None
        self.port = free_port()

    def start(self):
        environment = {**os.environ, "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
                       "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": self.root,
                       "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
                       "OTEL_TRACES_EXPORTER": "none"}
        self.process = subprocess.Popen(
            self.command, env=environment, stdout=self.log, stderr=self.log)
        began = time.monotonic()
        while time.monotonic() - began < START_LIMIT_S:
            try:
                if Client(self.port).call("GET", "/v2/")[0] == 200:
                    return (time.monotonic() - began) * 1000
            except Cut:
                if self.process.poll() is not None:
                    break
                time.sleep(0.005)
        print(f"the server did not start (exit status {self.process.poll()})")
        sys.exit(2)

    def end(self, how):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)


def push_until_killed(server, repositories, chance):
    """One cycle under load: the number of acknowledged pushes, and what failed in it."""
    acknowledged, killed = threading.Semaphore(0), threading.Event()
    pushers = [Pusher(server.port, repository, chance.getrandbits(64), acknowledged, killed)
               for repository in repositories]
    for pusher in pushers:
        pusher.start()
    limit = time.monotonic() + PUSH_LIMIT_S
    for _ in range(ACKNOWLEDGED_BEFORE_KILL):
        if not acknowledged.acquire(timeout=max(0, limit - time.monotonic())):
            failures = [p.failure for p in pushers if p.failure]
            raise Lost(f"fewer than {ACKNOWLEDGED_BEFORE_KILL} pushes in {PUSH_LIMIT_S} s: "
                       f"{failures[:3]}")
    time.sleep(chance.uniform(0.020, 0.400))
    killed.set()
    server.end(signal.SIGKILL)
    for pusher in pushers:
        pusher.join(timeout=40)
    failures = [p.failure or "still running" for p in pushers if p.failure or p.is_alive()]
    return sum(p.pushes for p in pushers), failures


def verify(server, repositories, full):
    verifiers = [Verifier(server.port, repository, full) for repository in repositories]
    lost = []

    def run(verifier):
        try:
            verifier.run()
        except Exception as error:  # noqa: BLE001 - every failure of a check is a loss
            verifier.lost.append(f"{verifier.repo.name}: {type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(v,)) for v in verifiers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for verifier in verifiers:
        lost += verifier.lost
    return sum(v.checked for v in verifiers), lost


def options():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--binary", default="target/release/kelson")
    parser.add_argument("--command", help="instead of `BINARY serve`")
    parser.add_argument("--seed", type=int, default=None, help="of the load; the kill is a race")
    parser.add_argument("--root", help="an empty folder for the store (default: a temporary one)")
    return parser.parse_args()


def run(args, server, chance):
    repositories = [Repository(f"crash/p{n}") for n in range(PUSHERS)]
    pushes = checks = lost_total = 0
    slowest_ms = server.start()
    for cycle in range(1, args.cycles + 1):
        try:
            count, failures = push_until_killed(server, repositories, chance)
        except Lost as error:
            count, failures = 0, [str(error)]
            server.end(signal.SIGKILL)
        ready_ms = server.start()
        slowest_ms = max(slowest_ms, ready_ms)
        full = cycle % 10 == 0 or cycle == args.cycles
        checked, lost = verify(server, repositories, full)
        lost = failures + lost
        pushes, checks, lost_total = pushes + count, checks + checked, lost_total + len(lost)
        print(f"cycle {cycle}: {count} pushes acknowledged, ready after {ready_ms:.0f} ms, "
              f"{checked} checked{' (everything)' if full else ''}, {len(lost)} lost", flush=True)
        for line in lost[:10]:
            print(f"  LOST {line}")
        if lost:
            break
    print(f"crash: {cycle} kills, {pushes} pushes acknowledged, {checks} checks, "
          f"{lost_total} lost, slowest start {slowest_ms:.0f} ms")
    return 1 if lost_total else 0


def main():
    args = options()
    seed = args.seed if args.seed is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    command = shlex.split(args.command) if args.command else [args.binary, "serve"]
    with tempfile.TemporaryDirectory() as folder:
        log_path = os.path.join(folder, "server.log")
        with open(log_path, "wb") as log:
            server = Server(command, args.root or os.path.join(folder, "store"), log)
            status = 2
            try:
                status = run(args, server, random.Random(seed))
            finally:
                server.end(signal.SIGKILL)
                if status:
                    with open(log_path, "rb") as text:
                        sys.stdout.write(text.read()[-3000:].decode(errors="replace"))
    return status


if __name__ == "__main__":
    sys.exit(main())
