#!/usr/bin/env python3
"""Fifty clients on a disk that fills up (see .ci/full).

    full.py --disk DIRECTORY --half watermark|bare --seconds 30 --command "kelson serve"

The clients push images, pull what was acknowledged and delete some of it, in rounds. A round:
the store grows until uploads are refused; then a foreign file takes the last byte (every other
round: foreign files take the last inode) while the clients go on and delete, and the collector
works; then the foreign files go and the time until an image can be pushed again is taken, while
the others push as well. Blobs of images that did not fit are collected after seconds.

Throughout, every answer is a success, 507 or 503 (with Retry-After), every pull of an
acknowledged image is right, every deletion works, and the process stays the same. In the end
everything acknowledged is there, before a restart and after it. The restart finds not one free
byte and not one free inode: it serves and deletes all the same, and takes images when there is
room.

Exit status: 0 all held, 1 something did not.
"""
import argparse, hashlib, http.client, json, os, random, re, signal  # noqa: E401
import socket, subprocess, sys, threading, time  # noqa: E401

CLIENTS, REPOSITORIES = 50, 10
IMAGES_LEFT = 20    # what deletes leave, so that there is something to pull
# Longer than any push takes: a blob is there until its manifest comes.
GRACE_S = 8
RECOVERY_LIMIT_S, READ_LIMIT_S, START_LIMIT_S = 5, 5, 30
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
REFUSALS = (503, 507)


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def free_port():
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Wrong(Exception):
    """An answer that may not be."""


class Refused(Exception):
    """507 or 503."""


class Figures:
    def __init__(self):
        self.lock = threading.Lock()
        self.counts = dict.fromkeys(
            ("pushes", "pulls", "deletes", "deletes_at_zero", "collected", "collected_at_zero",
             "refused", "rounds"), 0)
        self.read_s, self.recovery_s, self.freed = [], [], []
        self.wrong = []

    def count(self, name, more=1):
        with self.lock:
            self.counts[name] += more

    def say_wrong(self, text):
        with self.lock:
            self.wrong.append(text)


class Client:
    def __init__(self, port):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=30)

    def call(self, method, path, body=None, headers=None):
        try:
            self.http.request(method, path, body=body,
                              headers={"Accept": MANIFEST, **(headers or {})})
            answer = self.http.getresponse()
            return answer.status, answer.headers, answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.http.close()
            raise Wrong(f"{method} {path}: no answer: {error!r}") from error

    def must(self, wanted, method, path, body=None, headers=None):
        """The answer, if its status is `wanted`."""
        status, got, text = self.call(method, path, body, headers)
        if status in REFUSALS and method != "GET":
            if "Retry-After" not in got:
                raise Wrong(f"{method} {path}: {status} without Retry-After")
            if json.loads(text)["errors"][0]["code"] != "UNAVAILABLE":
                raise Wrong(f"{method} {path}: {status} with {text!r}")
            raise Refused(f"{method} {path}: {status}")
        if status != wanted:
            raise Wrong(f"{method} {path}: {status} instead of {wanted}: {text[:200]!r}")
        return got, text

    def push_blob(self, repo, data, chunked):
        digest = sha256(data)
        kind = {"Content-Type": "application/octet-stream"}
        uploads = f"/v2/{repo}/blobs/uploads/"
        if len(data) < 1000:
            self.must(201, "POST", f"{uploads}?digest={digest}", data, kind)
            return digest
        got, _ = self.must(202, "POST", uploads, b"")
        location = got["Location"]
        try:
            if chunked:
                half = len(data) // 2
                got, _ = self.must(202, "PATCH", location, data[:half], kind)
                location, data = got["Location"], data[half:]
            joint = "&" if "?" in location else "?"
            self.must(201, "PUT", f"{location}{joint}digest={digest}", data, kind)
        except Refused:
            # As a client that gives up; the session must be there for that.
            if self.call("DELETE", location)[0] not in (204, 404, 503, 507):
                raise Wrong(f"{location} cannot be cancelled") from None
            raise
        return digest

    def push(self, repo, tag, layers, chunked=False):
        described = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": len(layer),
                      "digest": self.push_blob(repo, layer, chunked)} for layer in layers]
        config = b'{"architecture":"amd64","os":"linux","n":%d}' % random.getrandbits(60)
        self.push_blob(repo, config, False)
        document = json.dumps({
            "schemaVersion": 2, "mediaType": MANIFEST, "layers": described,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": sha256(config), "size": len(config)}}).encode()
        self.must(201, "PUT", f"/v2/{repo}/manifests/{tag}", document,
                  {"Content-Type": MANIFEST})
        return document

    def pull(self, repo, document):
        digest = sha256(document)
        _, text = self.must(200, "GET", f"/v2/{repo}/manifests/{digest}")
        if text != document:
            raise Wrong(f"{repo}@{digest} has other bytes")
        parsed = json.loads(document)
        for part in [parsed["config"], *parsed["layers"]]:
            _, data = self.must(200, "GET", f"/v2/{repo}/blobs/{part['digest']}")
            if sha256(data) != part["digest"]:
                raise Wrong(f"{repo}: {part['digest']} has other bytes")


class Images:
    """What was acknowledged; an image that somebody is deleting is nobody else's."""

    def __init__(self):
        self.lock, self.all = threading.Lock(), []

    def add(self, image):
        with self.lock:
            self.all.append(image)

    def take(self, least=0):
        with self.lock:
            if len(self.all) <= least:
                return None
            return self.all.pop(random.randrange(len(self.all)))


class Worker(threading.Thread):
    def __init__(self, number, harness):
        super().__init__(daemon=True)
        self.number, self.harness, self.tags = number, harness, 0
        self.client, self.figures = Client(harness.port), harness.figures

    def run(self):
        while not self.harness.done.is_set():
            try:
                draw = random.random()
                if draw < 0.5 and not self.harness.pause.is_set():
                    self.push()
                elif draw < 0.9:
                    self.pull()
                elif draw < 0.93:
                    self.delete()
            except Refused:
                self.figures.count("refused")
                time.sleep(0.02)
            except Exception as error:  # noqa: BLE001 - reported at the end
                self.figures.say_wrong(f"client {self.number}: {error}")
                time.sleep(0.5)
            time.sleep(0.01)

    def push(self):
        repo = f"full/{self.number % REPOSITORIES}"
        draw = random.random()
        size = random.randrange(1, 30_000) if draw < 0.8 else random.randrange(200_000, 900_000)
        self.tags += 1
        layer = random.randbytes(size)
        document = self.client.push(repo, f"c{self.number}-{self.tags}", [layer], draw > 0.9)
        self.harness.images.add((repo, document))
        self.figures.count("pushes")

    def pull(self):
        image = self.harness.images.take()
        if image is None:
            return
        try:
            began = time.monotonic()
            self.client.pull(*image)
            self.figures.read_s.append(time.monotonic() - began)
            self.figures.count("pulls")
        finally:
            self.harness.images.add(image)

    def delete(self):
        self.harness.delete_one(self.client, IMAGES_LEFT)


class Harness:
    def __init__(self, options):
        self.options, self.port, self.debug_port = options, free_port(), free_port()
        self.figures, self.images, self.done = Figures(), Images(), threading.Event()
        self.disk, self.log_path = options.disk, options.disk + ".log"
        self.root = os.path.join(self.disk, "registry")
        self.at_zero, self.pause = threading.Event(), threading.Event()
        self.server, self.names = None, 0
        self.spare, self.filler = (os.path.join(self.disk, it) for it in ("spare", "filler"))

    # -- the server

    def start(self):
        environment = {
            **os.environ, "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": self.root,
            "REGISTRY_STORAGE_DELETE_ENABLED": "true",
            "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
            "REGISTRY_HTTP_DEBUG_ADDR": f"127.0.0.1:{self.debug_port}",
            "REGISTRY_HTTP_DEBUG_PROMETHEUS_ENABLED": "true",
            "REGISTRY_KELSON_GC_UNSAFE": "true",
            "REGISTRY_KELSON_GC_GRACE": f"{GRACE_S}s", "REGISTRY_KELSON_GC_LEASE": "1s",
        }
        if self.options.half == "bare":
            environment["REGISTRY_KELSON_STORAGE_WATERMARK"] = "0"
        os.makedirs(self.root, exist_ok=True)
        with open(self.log_path, "ab") as log:
            self.server = subprocess.Popen(self.options.command.split(), env=environment,
                                           stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        began = time.monotonic()
        while time.monotonic() - began < START_LIMIT_S:
            try:
                if Client(self.port).call("GET", "/v2/")[0] == 200:
                    return
            except Wrong:
                time.sleep(0.05)
            if self.server.poll() is not None:
                break
        raise SystemExit(f"the server did not start:\n{self.log()[-3000:]}")

    def stop(self):
        self.server.send_signal(signal.SIGTERM)
        status = self.server.wait(timeout=60)
        if status != 0:
            self.figures.say_wrong(f"the server ended with {status}")

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def collected(self):
        """Contents that the collector has removed."""
        _, _, text = Client(self.debug_port).call("GET", "/metrics")
        return int(re.search(rb"kelson_collected_contents_total (\d+)", text)[1])

    # -- the disk

    def free(self):
        found = os.statvfs(self.disk)
        return found.f_bavail * found.f_frsize, found.f_favail

    @staticmethod
    def take_bytes(name, wanted=1 << 40):
        """Takes so many bytes of the disk, or all there are, at the end of a file."""
        with open(name, "ab", buffering=0) as file:
            while wanted > 0:
                try:
                    wanted -= file.write(bytes(min(wanted, 65536)))
                except OSError:
                    return

    def take_inodes(self, wanted=1 << 40):
        names = []
        try:
            while len(names) < wanted:
                self.names += 1
                name = os.path.join(self.disk, f"foreign-{self.names}")
                os.close(os.open(name, os.O_CREAT | os.O_EXCL))
                names.append(name)
        except OSError:
            pass    # there is none left
        return names

    # -- rounds

    def delete_one(self, client, least):
        image = self.images.take(least)
        if image is None:
            return False
        repo, document = image
        zero = self.at_zero.is_set()
        path = f"/v2/{repo}/manifests/{sha256(document)}"
        try:
            client.must(202, "DELETE", path)
        except Refused:
            self.images.add(image)
            if self.options.half == "watermark":
                raise Wrong(f"DELETE {path} was refused") from None
            raise
        if client.call("GET", path)[0] != 404:
            raise Wrong(f"{path} is there after its deletion")
        self.figures.count("deletes")
        if zero and self.at_zero.is_set():
            self.figures.count("deletes_at_zero")
        return True

    def until_refused(self, limit_s):
        refused, began = self.figures.counts["refused"], time.monotonic()
        while time.monotonic() - began < limit_s:
            if self.figures.counts["refused"] > refused + 50:
                return
            time.sleep(0.05)
        self.figures.say_wrong(f"the disk was not full in {limit_s} s: {self.free()}")

    def keep_full(self, seconds, inodes):
        """Takes the last byte or inode, again and again, for a while; then gives all back."""
        taken, until, client = [], time.monotonic() + seconds, Client(self.port)
        self.at_zero.set()
        collected = self.collected()
        while time.monotonic() < until:
            if inodes:
                taken += self.take_inodes()
            else:
                self.take_bytes(self.filler)
            self.delete_at_zero(client)
            time.sleep(0.1)
        self.figures.count("collected_at_zero", self.collected() - collected)
        self.at_zero.clear()
        for name in taken:
            os.remove(name)
        os.truncate(self.filler, 0)

    def delete_at_zero(self, client):
        try:
            self.delete_one(client, IMAGES_LEFT)
        except Refused:
            self.figures.count("refused")
        except Wrong as error:
            self.figures.say_wrong(f"on a full disk: {error}")

    def recover(self):
        """The time until an image can be pushed."""
        client, began = Client(self.port), time.monotonic()
        while time.monotonic() - began < 2 * RECOVERY_LIMIT_S:
            try:
                document = client.push("full/0", f"r{began}", [b"small"])
                self.images.add(("full/0", document))
                break
            except Refused:
                time.sleep(0.05)
        took = time.monotonic() - began
        self.figures.recovery_s.append(took)
        if took > RECOVERY_LIMIT_S:
            self.figures.say_wrong(f"no push {took:.1f} s after space returned: {self.free()}")

    def round(self, number):
        self.until_refused(20)
        self.keep_full(3, inodes=number % 2 == 1)
        # As if somebody had given the disk more. Without a watermark the other clients would
        # have taken it before anybody can look.
        if self.options.half == "bare":
            self.pause.set()
            time.sleep(0.5)
        os.truncate(self.spare, max(0, os.path.getsize(self.spare) - self.options.step))
        for name in self.spare_inodes[-40:]:
            os.remove(name)
        del self.spare_inodes[-40:]
        self.recover()
        self.pause.clear()
        self.figures.count("rounds")

    def run(self):
        self.start()
        pid = self.server.pid
        self.take_bytes(self.filler, 1)
        self.take_bytes(self.spare, 40 << 20)
        self.spare_inodes = self.take_inodes(160)
        workers = [Worker(number, self) for number in range(CLIENTS)]
        for worker in workers:
            worker.start()
        until, number = time.monotonic() + self.options.seconds, 0
        while time.monotonic() < until and os.path.getsize(self.spare) > 0:
            self.round(number)
            number += 1
        self.done.set()
        for worker in workers:
            worker.join(timeout=60)
        self.check_all("before the restart")
        self.figures.count("collected", self.collected())
        if self.server.poll() is not None or self.server.pid != pid:
            self.figures.say_wrong("the server did not live through it")
        self.stop()
        self.start_on_full_disk()
        self.check_all("after the restart")
        self.stop()
        self.check_log()
        return self.report()

    # -- the end

    def start_on_full_disk(self):
        self.take_bytes(self.filler)
        taken = self.take_inodes()
        self.start()
        self.at_zero.set()
        self.check_all("after a start on a full disk")
        try:
            if not self.delete_one(Client(self.port), 0):
                self.figures.say_wrong("nothing was left to delete on a full disk")
        except (Refused, Wrong) as error:
            self.figures.say_wrong(f"after a start on a full disk: {error}")
        self.at_zero.clear()
        for name in taken:
            os.remove(name)
        os.truncate(self.filler, 0)
        os.truncate(self.spare, 0)
        self.recover()
        self.await_socket()

    def await_socket(self):
        """Commands can ask a server again that had no room for its socket."""
        # Contents that waited for their files may have taken every inode that was given back.
        subprocess.run(["mount", "-o", "remount,nr_inodes=4000", self.disk], check=True)
        until = time.monotonic() + 3 * RECOVERY_LIMIT_S
        while not os.path.exists(os.path.join(self.root, "kelson", "admin.sock")):
            if time.monotonic() > until:
                self.figures.say_wrong("there is no admin socket though there is room")
                return
            time.sleep(0.1)

    def check_all(self, when):
        client = Client(self.port)
        for repo, document in self.images.all:
            try:
                client.pull(repo, document)
            except Wrong as error:
                self.figures.say_wrong(f"{when}: {error}")

    def check_log(self):
        text = self.log()
        if "panicked" in text:
            self.figures.say_wrong("something panicked")
        self.commits_failed = text.count("a commit failed")
        self.released = text.count("ballast is released")
        if self.options.half == "watermark":
            # Each process says it of itself, and may end while there is little.
            for process in text.split("msg=\"listening on"):
                begins = process.count("too little room is left")
                ends = process.count("there is room again")
                if not 0 <= begins - ends <= 1:
                    self.figures.say_wrong(f"little room began {begins} times, ended {ends} times")
        # It is the database alone that has the ballast released, when a write of it is refused.
        if self.released == 0:
            self.figures.say_wrong("the database never met the end of the disk")

    def report(self):
        figures, counts = self.figures, self.figures.counts
        reads = sorted(figures.read_s) or [0]
        if reads[-1] > READ_LIMIT_S:
            figures.say_wrong(f"a pull took {reads[-1]:.1f} s")
        for name, count in counts.items():
            if count == 0:
                figures.say_wrong(f"no {name}: nothing was tested")
        for text in figures.wrong[:20]:
            print(f"WRONG {text}")
        if figures.wrong:
            errors = [it for it in self.log().splitlines() if re.search("level=(error|warn)", it)]
            print("\n".join(errors[-20:]))
        line = " ".join(f"{name}={count}" for name, count in counts.items())
        print(f"RESULT full half={self.options.half} {line} "
              f"pull_p99_ms={reads[len(reads) * 99 // 100] * 1000:.0f} "
              f"pull_max_ms={reads[-1] * 1000:.0f} "
              f"recovery_max_ms={max(figures.recovery_s, default=0) * 1000:.0f} "
              f"failed_commits={self.commits_failed} ballast_released={self.released} "
              f"wrong={len(figures.wrong)}")
        return 1 if figures.wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disk", required=True)
    parser.add_argument("--half", choices=("watermark", "bare"), required=True)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--step", type=int, default=8 << 20)
    parser.add_argument("--command", required=True)
    harness = Harness(parser.parse_args())
    try:
        return harness.run()
    finally:
        if harness.server and harness.server.poll() is None:
            harness.server.kill()
            harness.server.wait()


sys.exit(main())
