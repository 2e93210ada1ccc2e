"""Registries under test, each a driver of four verbs: start, stop, gc, paths. The rest is HTTP.

What is known of each beyond HTTP stands in its attributes:
  collects       unused blobs may be collected while it runs
  grace_s        seconds that an unused blob is kept at least
  resumes        an acknowledged part of an upload survives a kill
  atomic         a manifest and its tag change together
  strict         an answer that it may not give is a failure; a peer's is counted
"""
import ctypes, os, random, signal, socket, subprocess, sys, time  # noqa: E401

from load import Client
from model import Cut

START_LIMIT_S = 30
PR_SET_PDEATHSIG = 1


class DidNotStart(Exception):
    """The server ended, or does not answer."""


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


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Registry:
    """A server in a process of its own, on one store."""

    name = "registry"
    collects = resumes = atomic = strict = False
    grace_s = 3600.0

    def __init__(self, binary, folder, log):
        self.binary, self.folder, self.log = os.path.abspath(binary), folder, log
        self.root = os.path.join(folder, "store")
        self.port, self.process, self.prefix = free_port(), None, []
        self.extra = {}     # environment on top

    # -- what a driver says

    def command(self):
        raise NotImplementedError

    def environment(self):
        return {}

    def gc(self):
        """Collects garbage, while the server is down."""

    def paths(self):
        """The folder of blob files, `<hh>/<hex>/data` or `<hex>`; that of uploads, or None."""
        raise NotImplementedError

    # -- the same for all

    def start(self):
        """Milliseconds until it answers."""
        began = time.monotonic()
        environment = {**os.environ, "OTEL_TRACES_EXPORTER": "none", **self.environment(),
                       **self.extra}
        self.process = subprocess.Popen(
            [*self.prefix, *self.command()], env=environment, stdout=self.log, stderr=self.log,
            stdin=subprocess.DEVNULL, preexec_fn=die_with_parent)
        while time.monotonic() - began < START_LIMIT_S:
            try:
                if Client(self.port).call("GET", "/v2/")[0] == 200:
                    return (time.monotonic() - began) * 1000
            except Cut:
                if self.process.poll() is not None:
                    break
                time.sleep(0.004)
        raise DidNotStart(f"{self.name} did not start (exit status {self.process.poll()})")

    def start_new(self, mutant):
        """The first start, of an empty store; what it breaks as a mutant, it breaks later."""
        self.start()
        if mutant:
            self.stop(signal.SIGTERM)
            self.extra["KELSON_MUTANT"] = mutant
            self.start()

    def stop(self, how=signal.SIGKILL, limit_s=30):
        """Its exit status (negative: the signal), or None when it does not end."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            return None

    def blob_files(self):
        """The digests that have a file."""
        top = os.path.join(self.paths()[0], "sha256")
        found = []
        for folder, _, files in os.walk(top):
            found += [f"sha256:{os.path.basename(folder)}" for name in files if name == "data"]
        return found

    def blob_path(self, digest):
        value = digest.removeprefix("sha256:")
        return os.path.join(self.paths()[0], "sha256", value[:2], value, "data")

    def plant(self, digest, data):
        """Puts bytes where the blob's file belongs, as something earlier may have left them."""
        path = self.blob_path(digest)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def damage(self, digest):
        """Cuts the end off the blob's file; whether there was one."""
        try:
            os.truncate(self.blob_path(digest), os.path.getsize(self.blob_path(digest)) - 1)
        except FileNotFoundError:
            return False
        return True

    def staged(self):
        """How many uploads are on disk."""
        folder = self.paths()[1]
        try:
            return len(os.listdir(folder)) if folder else 0
        except FileNotFoundError:
            return 0


class Kelson(Registry):
    """As released, with a collector and exports that never rest."""

    name = "kelson"
    collects = resumes = atomic = strict = True
    grace_s = 1.0

    def command(self):
        return [self.binary, "serve"]

    def environment(self):
        return {"REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
                "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": self.root,
                "REGISTRY_HTTP_DRAINTIMEOUT": "10s",
                "REGISTRY_LOG_ACCESSLOG_DISABLED": "true",
                "REGISTRY_KELSON_GC_UNSAFE": "true", "REGISTRY_KELSON_GC_GRACE": "1s",
                "REGISTRY_KELSON_GC_LEASE": "1s",
                "REGISTRY_KELSON_BACKUP_INTERVAL": "1s"}

    def paths(self):
        return (os.path.join(self.root, "docker/registry/v2/blobs"),
                os.path.join(self.root, "kelson/staging"))


class Distribution(Registry):
    """distribution with the settings of its published images, and deletion."""

    name = "distribution"
    collects = True     # its `gc` does, while it is down

    def command(self):
        return [self.binary, "serve", self.config()]

    def config(self):
        path = os.path.join(self.folder, "distribution.yml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"""version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage:
  cache: {{blobdescriptor: inmemory}}
  filesystem: {{rootdirectory: {self.root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{self.port}", relativeurls: true, secret: of-all-restarts}}
""")
        return path

    def gc(self):
        subprocess.run([self.binary, "garbage-collect", self.config()], check=False,
                       stdout=subprocess.DEVNULL, stderr=self.log, timeout=600)

    def paths(self):
        return os.path.join(self.root, "docker/registry/v2/blobs"), None


DRIVERS = {driver.name: driver for driver in (Kelson, Distribution)}


def show_log(path):
    """The end of a server's log, for whoever looks for what went wrong."""
    with open(path, "rb") as text:
        sys.stdout.write(text.read()[-3000:].decode(errors="replace"))
