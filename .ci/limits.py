#!/usr/bin/env python3
"""Few descriptors, threads, little memory; slow, idle and fleeting connections (see .ci/limits).

Each part starts a server of its own, on an own store. Exit status: 0 all bounds held, 1 not.
"""
import argparse, asyncio, hashlib, os, random, resource, signal  # noqa: E401
import socket, subprocess, sys, time  # noqa: E401

MIB = 1 << 20
RECOVERY_LIMIT_S = 5


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


def percentile(values, share):
    values = sorted(values) or [0]
    return values[min(len(values) - 1, int(len(values) * share))]


class Wrong(Exception):
    """A bound that did not hold."""


def holds(condition, text):
    if not condition:
        raise Wrong(text)


class Connection:
    """One keep-alive connection that reads whole answers."""

    def __init__(self, port, source=None):
        self.port, self.source, self.reader, self.writer = port, source, None, None

    async def open(self):
        if self.writer is None:
            local = (self.source, 0) if self.source else None
            self.reader, self.writer = await asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=local)

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None

    async def send(self, data):
        await self.open()
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status = int(head.split(" ", 2)[1])
        headers = {}
        for line in head.split("\r\n")[1:-2]:
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        length = int(headers.get("content-length", 0)) if status != 204 else 0
        body = await self.reader.readexactly(length) if length else b""
        if headers.get("connection") == "close":
            self.close()
        return status, headers, body

    async def call(self, method, path, body=b""):
        await self.send(f"{method} {path} HTTP/1.1\r\nHost: test\r\n"
                        f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return await self.answer()


class Server:
    def __init__(self, options, name, prefix=(), **settings):
        self.port = free_port()
        folder = os.path.join(options.folder, name)
        os.makedirs(folder)
        os.chmod(options.folder, 0o755)
        os.chmod(folder, 0o777)
        self.log_path = os.path.join(folder, "log")
        environment = {
            **os.environ, "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
            "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY": os.path.join(folder, "store"),
            "REGISTRY_LOG_ACCESSLOG_DISABLED": "true", **settings,
        }
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([*prefix, options.binary, "serve"], env=environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    async def ready(self):
        until = time.monotonic() + 30
        while time.monotonic() < until and self.process.poll() is None:
            try:
                connection = Connection(self.port)
                if (await connection.call("GET", "/readyz"))[0] == 200:
                    connection.close()
                    return self
            except OSError:
                await asyncio.sleep(0.05)
        raise Wrong(f"it did not start: {self.log()[-2000:]}")

    def log(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def status(self, field):
        with open(f"/proc/{self.process.pid}/status") as file:
            line = next(line for line in file if line.startswith(field + ":"))
        return int(line.split()[1])

    def rss_mib(self):
        return self.status("VmRSS") / 1024

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_s(self):
        with open(f"/proc/{self.process.pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self):
        alive = self.process.poll() is None
        if alive:
            self.process.send_signal(signal.SIGTERM)
            try:
                status = self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                status = f"nothing but a kill: {self.process.wait()}"
        text = self.log()
        holds(alive, f"it ended by itself: {text[-2000:]}")
        holds(status == 0, f"it ended with {status}: {text[-2000:]}")
        holds("panicked" not in text, f"something panicked: {text[-2000:]}")


def fine(status, headers, wanted):
    """Whether it is the wanted answer; a refusal must say when to come back."""
    if status == wanted:
        return True
    holds(status == 503 and "retry-after" in headers, f"{status} instead of {wanted}: {headers}")
    return False


async def push_and_pull(connection, repo, size, figures):
    """A blob there and back."""
    data = random.randbytes(size)
    digest = sha256(data)
    status, headers, _ = await connection.call("POST", f"/v2/{repo}/blobs/uploads/")
    if not fine(status, headers, 202):
        figures["busy"] += 1
        return False
    status, headers, _ = await connection.call(
        "PUT", f"{headers['location']}?digest={digest}", data)
    if not fine(status, headers, 201):
        figures["busy"] += 1
        return False
    status, headers, body = await connection.call("GET", f"/v2/{repo}/blobs/{digest}")
    if not fine(status, headers, 200):
        figures["busy"] += 1
        return False
    holds(body == data, "other bytes came back")
    figures["done"] += 1
    return True


async def crowd(server, clients, seconds, size, peak=None):
    """So many clients push and pull, each on a fresh connection every few times."""
    figures = {"done": 0, "busy": 0}
    until = time.monotonic() + seconds

    async def client(number):
        while time.monotonic() < until:
            connection = Connection(server.port)
            for _ in range(3):
                if not await push_and_pull(connection, f"crowd/{number % 7}", size(), figures):
                    await asyncio.sleep(0.1)
            connection.close()

    async def watch():
        while time.monotonic() < until:
            if peak is not None:
                for name, value in (("files", server.files()), ("rss_mib", server.rss_mib()),
                                    ("threads", server.status("Threads"))):
                    peak[name] = max(peak.get(name, 0), value)
            await asyncio.sleep(0.1)

    await asyncio.gather(watch(), *(client(number) for number in range(clients)))
    holds(figures["done"] > clients, f"hardly anything was done: {figures}")
    return figures


async def recovers(server):
    """How long until a push and a pull work on a new connection."""
    began = time.monotonic()
    connection, figures = Connection(server.port), {"done": 0, "busy": 0}
    while not await push_and_pull(connection, "after", 100_000, figures):
        await asyncio.sleep(0.05)
    connection.close()
    took = time.monotonic() - began
    holds(took < RECOVERY_LIMIT_S, f"it took {took:.1f} s to recover")
    return took


async def latencies(server, count, work):
    connection, took = Connection(server.port), []
    for number in range(count):
        began = time.monotonic()
        await work(connection, number)
        took.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    connection.close()
    return took


async def push(connection, number):
    figures = {"done": 0, "busy": 0}
    holds(await push_and_pull(connection, "measured", 20_000 + number, figures), "busy")


# ---------------------------------------------------------------------------------- parts

async def descriptors(options):
    """256 descriptors (D-15)."""
    server = await Server(options, "descriptors", ("prlimit", "--nofile=256:256")).ready()
    peak = {}
    figures = await crowd(server, 300, options.seconds / 2,
                          lambda: random.choice((1000, 100_000, 1_000_000)), peak)
    # More than are accepted, and silent: nobody may spin on the rest.
    idle = [Connection(server.port) for _ in range(400)]
    for connection in idle:
        await connection.open()
    await asyncio.sleep(1)
    before = server.cpu_s()
    await asyncio.sleep(3)
    cpu = (server.cpu_s() - before) / 3
    holds(cpu < 0.2, f"{cpu:.0%} of a processor for idle connections")
    for connection in idle:
        connection.close()
    took = await recovers(server)
    # Uploads that wait for their next chunk: more than there are descriptors.
    connection, waiting = Connection(server.port), []
    for number in range(400):
        _, headers, _ = await connection.call("POST", "/v2/waiting/blobs/uploads/")
        data = random.randbytes(100_000)
        status, headers, _ = await connection.call("PATCH", headers["location"], data)
        holds(status == 202, f"upload {number} that waits: {status}")
        waiting.append((headers["location"], data))
    peak["files"] = max(peak["files"], server.files())
    for location, data in random.sample(waiting, 50):
        status, _, _ = await connection.call("PUT", f"{location}?digest={sha256(data)}")
        holds(status == 201, f"an upload that waited: {status}")
    connection.close()
    server.stop()
    holds(peak["files"] <= 256, f"{peak['files']} descriptors")
    return {**figures, "files_max": peak["files"], "idle_cpu": f"{cpu:.3f}",
            "recovery_s": f"{took:.2f}"}


async def threads(options):
    """As many threads as it has at the start, and two more (D-15)."""
    # Of a user whose threads are counted: root's are not.
    as_user = ("setpriv", "--reuid=61234", "--regid=61234", "--clear-groups")
    limit = 12
    server = await Server(options, "threads",
                          (*as_user, "prlimit", f"--nproc={limit}:{limit}")).ready()
    peak = {}
    figures = await crowd(server, 60, options.seconds / 2,
                          lambda: random.choice((1000, 100_000, 1_000_000)), peak)
    # Long enough for threads without work to end, if they did.
    await asyncio.sleep(11)
    took = await recovers(server)
    server.stop()
    holds(peak["threads"] <= limit, f"{peak['threads']} threads")
    return {**figures, "threads_max": peak["threads"], "recovery_s": f"{took:.2f}"}


async def memory(options):
    """An address space of 1 GiB (D-15)."""
    server = await Server(options, "memory", ("prlimit", f"--as={1024 * MIB}")).ready()
    peak = {}
    figures = await crowd(server, 200, options.seconds / 2,
                          lambda: random.choice((1000, 100_000, 3_000_000)), peak)
    took = await recovers(server)
    server.stop()
    return {**figures, "rss_max_mib": f"{peak['rss_mib']:.0f}", "recovery_s": f"{took:.2f}"}


async def uploads(options):
    """Uploads that trickle (L-1)."""
    count = options.uploads
    server = await Server(options, "uploads",
                          REGISTRY_KELSON_LIMITS_UPLOADSPERREPOSITORY="1000000").ready()
    before = await latencies(server, 100, push)
    until, peak, started = time.monotonic() + options.seconds, {"rss": 0, "files": 0}, []

    async def trickle(number):
        connection = Connection(server.port)
        _, headers, _ = await connection.call("POST", f"/v2/slow/{number % 50}/blobs/uploads/")
        await connection.send(f"PATCH {headers['location']} HTTP/1.1\r\nHost: test\r\n"
                              "Content-Length: 1000000000\r\n\r\n".encode())
        started.append(number)
        # So that twenty seconds show what 1 KiB/s takes more than a minute for.
        while time.monotonic() < until:
            await connection.send(random.randbytes(4096))
            await asyncio.sleep(1)
        connection.close()

    async def watch():
        while time.monotonic() < until:
            peak["rss"] = max(peak["rss"], server.rss_mib())
            peak["files"] = max(peak["files"], server.files())
            await asyncio.sleep(0.2)

    async def others():
        while len(started) < count and time.monotonic() < until:
            await asyncio.sleep(0.1)
        return await latencies(server, 100, push)

    during = (await asyncio.gather(others(), watch(), *map(trickle, range(count))))[0]
    holds(len(started) == count, f"only {len(started)} uploads began in time")
    took = await recovers(server)
    server.stop()
    # 400 MiB at 10,000: 100 for the process, 30 KiB for each.
    limit = 100 + 300 * count / 10_000
    holds(peak["rss"] < limit, f"{peak['rss']:.0f} MiB, the limit is {limit:.0f}")
    holds(peak["files"] <= 2 * count + 100, f"{peak['files']} descriptors")
    return {"uploads": count, "rss_max_mib": f"{peak['rss']:.0f}", "files_max": peak["files"],
            "push_p99_ms": f"{percentile(during, 0.99) * 1000:.0f}",
            "push_p99_idle_ms": f"{percentile(before, 0.99) * 1000:.0f}",
            "recovery_s": f"{took:.2f}"}


async def connections(options):
    """Idle connections, slow headers, slow bodies (L-2)."""
    count, slow = options.connections, options.connections // 10
    server = await Server(options, "connections",
                          REGISTRY_KELSON_LIMITS_HEADERTIMEOUT="5s",
                          REGISTRY_KELSON_LIMITS_BODYWINDOW="5s").ready()
    data = random.randbytes(500_000)
    await Connection(server.port).call(
        "POST", f"/v2/pulled/blobs/uploads/?digest={sha256(data)}", data)

    async def pull(connection, _):
        status, _, body = await connection.call("GET", f"/v2/pulled/blobs/{sha256(data)}")
        holds(status == 200 and body == data, f"a pull: {status}")

    before = await latencies(server, 200, pull)
    idle = [Connection(server.port) for _ in range(count)]
    for connection in idle:
        await connection.open()

    async def slowly(first, limit_s):
        """One byte a second; how long until the server has enough of it."""
        connection = Connection(server.port)
        await connection.send(first)
        began = time.monotonic()
        try:
            while time.monotonic() - began < 4 * limit_s:
                await asyncio.sleep(1)
                await connection.send(b"x")
                if connection.reader.at_eof():
                    break
        except OSError:
            pass
        connection.close()
        return time.monotonic() - began

    headers = b"GET /v2/ HTTP/1.1\r\nHost: test\r\nX-Slow: "
    body = b"PUT /v2/slow/manifests/v1 HTTP/1.1\r\nHost: test\r\nContent-Length: 9999\r\n\r\n"
    slow_ones = asyncio.gather(*(slowly(headers, 5) for _ in range(slow)),
                               *(slowly(body, 10) for _ in range(slow)))
    rss, during = 0, []
    while not slow_ones.done():
        during += await latencies(server, 20, pull)
        rss = max(rss, server.rss_mib())
    ended = await slow_ones
    holds(max(ended[:slow]) < 10, f"slow headers lived for {max(ended[:slow]):.0f} s")
    holds(max(ended[slow:]) < 20, f"slow bodies lived for {max(ended[slow:]):.0f} s")
    for connection in idle:
        connection.close()
    took = await recovers(server)
    server.stop()
    holds(rss < 250, f"{rss:.0f} MiB")
    return {"idle": count, "slow": 2 * slow, "rss_max_mib": f"{rss:.0f}",
            "headers_closed_s": f"{max(ended[:slow]):.0f}",
            "bodies_closed_s": f"{max(ended[slow:]):.0f}",
            "pull_p99_ms": f"{percentile(during, 0.99) * 1000:.0f}",
            "pull_p99_idle_ms": f"{percentile(before, 0.99) * 1000:.0f}",
            "recovery_s": f"{took:.2f}"}


async def fleeting(options):
    """Connections that come and go (L-3)."""
    server = await Server(options, "fleeting").ready()
    before, made, until = server.files(), [0], time.monotonic() + options.seconds / 2

    async def come_and_go(number):
        while time.monotonic() < until:
            connection = Connection(server.port, f"127.0.0.{2 + number % 8}")
            try:
                await connection.open()
                made[0] += 1
            except OSError:
                await asyncio.sleep(0.05)
            connection.close()

    await asyncio.gather(*map(come_and_go, range(64)))
    took = await recovers(server)
    holds(took < 1, f"the first push took {took:.1f} s")
    await asyncio.sleep(1)
    after = server.files()
    server.stop()
    holds(after <= before + 4, f"{before} descriptors before, {after} after")
    return {"connections": made[0], "files_before": before, "files_after": after,
            "recovery_s": f"{took:.2f}"}


PARTS = {part.__name__: part
         for part in (descriptors, threads, memory, uploads, connections, fleeting)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--uploads", type=int, default=2000)
    parser.add_argument("--connections", type=int, default=2000)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--parts", default=" ".join(PARTS))
    options = parser.parse_args()
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, allowed))
    failed = 0
    for name in options.parts.split():
        try:
            figures = asyncio.run(PARTS[name](options))
            line = " ".join(f"{key}={value}" for key, value in figures.items())
            print(f"RESULT limits part={name} {line}", flush=True)
        except (Wrong, OSError, EOFError) as error:
            failed = 1
            print(f"WRONG {name}: {type(error).__name__}: {error}", flush=True)
            print(f"RESULT limits part={name} wrong=1", flush=True)
    return failed


sys.exit(main())
