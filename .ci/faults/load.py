"""Eight clients that push, move tags, mount, send in chunks, resume, cancel and delete."""
import http.client, json, random, threading, time  # noqa: E401

from model import (OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Cut, Upload, Wrong, content, parts,
                   sha256)

OCTETS = {"Content-Type": "application/octet-stream"}


class Client:
    """One keep-alive connection."""

    def __init__(self, port, timeout_s=30):
        self.http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

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
            text = f"{method} {path} answered {status}, not {wanted}: {text[:200]!r}"
            raise Wrong("refused", text)
        return status, got, text


class Pusher(threading.Thread):
    """Pushes images into one repository until the server goes away.

    `stopping` is set before the server is ended: from then on a cut is no failure. `acknowledged`
    is released at each image. `plant` puts bytes at a digest's place in the store, as a crash or
    an earlier registry may have left them there (None: never, and nothing is damaged either).
    """

    def __init__(self, registry, repository, seed, acknowledged, stopping):
        super().__init__(daemon=True)
        self.registry, self.stopping, self.acknowledged = registry, stopping, acknowledged
        self.client, self.repo, self.random = Client(registry.port), repository, random.Random(seed)
        self.failure, self.pushes, self.plant = None, 0, None
        self.tolerant = not registry.strict     # what is refused is counted by the checks
        self.may_refuse = False  # once `stopping` is set: its disk is gone
        self.retries = False    # goes on with an upload that was refused
        self.medium, self.large = 0.15, 0.01    # share of images with a layer of 200 kB, of 5 MB

    def run(self):
        while True:
            try:
                self.one()
            except Cut as error:
                if not self.stopping.is_set():
                    self.failure = f"cut before the end: {error}"
                return
            except Wrong as error:
                if self.stopping.is_set() and self.may_refuse:
                    return
                if not self.tolerant:
                    self.failure = error.text
                    return
                time.sleep(0.005)
            except Exception as error:  # noqa: BLE001 - reported by the main thread
                self.failure = f"{type(error).__name__}: {error}"
                return

    def one(self):
        if self.retries and self.repo.upload:
            self.retry_upload()
        draw = self.random.random()
        if draw < 0.05:
            self.cancel_upload()
        elif draw < 0.10 and self.registry.resumes and not self.repo.kept_upload:
            self.leave_upload()
        elif draw < 0.15:
            self.push_garbage()
        elif draw < 0.20 and self.plant:
            self.damage_garbage()
        else:
            self.push_image()

    # -- blobs

    def begin(self, seed, size):
        _, headers, _ = self.client.must((202,), "POST", self.repo.path("blobs/uploads/"), b"")
        self.repo.upload = Upload(headers["Location"], seed, size)
        return self.repo.upload

    def push_blob(self, size, seed=None):
        """A new blob, or again the one of this seed; in one of the four ways."""
        again = seed is not None
        seed = seed if again else self.random.getrandbits(64)
        data = content(seed, size)
        digest = sha256(data)
        self.repo.tried.add(digest)
        if self.plant and size > 65_536 and not again:
            self.plant(digest, data if self.random.random() < 0.5 else data[:-1] + b"!")
        how = self.random.choice(["at once", "put", "patch", "chunks"])
        if how == "at once":
            status, headers, _ = self.client.must(
                (201, 202), "POST", f"{self.repo.path('blobs/uploads/')}?digest={digest}",
                data, OCTETS)
            if status == 202:   # a registry that knows no single POST
                self.repo.upload = Upload(headers["Location"], seed, size)
                self.finish(headers["Location"], digest, data)
        else:
            upload = self.begin(seed, size)
            if how != "put":
                self.patch(upload, data, how)
            self.finish(upload.location, digest, data if how == "put" else b"")
        self.repo.blobs[digest] = (seed, size)
        return digest

    def patch(self, upload, data, how="chunks"):
        """Sends the rest of an upload, in one PATCH or in two with their ranges."""
        start = upload.acknowledged
        steps = [len(data)] if how == "patch" else sorted(
            {self.random.randrange(start + 1, len(data) + 1), len(data)})
        for end in steps:
            ranges = {"Content-Range": f"{start}-{end - 1}"} if how == "chunks" else {}
            upload.sent = end
            _, headers, _ = self.client.must(
                (202,), "PATCH", upload.location, data[start:end], {**OCTETS, **ranges})
            upload.location, upload.acknowledged, start = headers["Location"], end, end

    def finish(self, location, digest, data):
        joint = "&" if "?" in location else "?"
        self.client.must((201,), "PUT", f"{location}{joint}digest={digest}", data, OCTETS)
        self.repo.upload = None

    def cancel_upload(self):
        size = self.random.randrange(2, 100_000)
        upload = self.begin(self.random.getrandbits(64), size)
        self.patch(upload, content(upload.seed, size))
        self.client.must((202, 204), "DELETE", upload.location)
        self.repo.upload = None

    def leave_upload(self):
        """Begins an upload and leaves it alone; it goes on after the next kill."""
        size = self.random.randrange(4, 100_000)
        upload = self.begin(self.random.getrandbits(64), size)
        part = content(upload.seed, size)[:self.random.randrange(2, size)]
        upload.sent = len(part)
        _, headers, _ = self.client.must((202,), "PATCH", upload.location, part, OCTETS)
        upload.location, upload.acknowledged = headers["Location"], len(part)
        self.repo.kept_upload, self.repo.upload = upload, None

    def retry_upload(self):
        """Goes on with an upload that was answered with an error, from where it says it stands."""
        upload = self.repo.upload
        upload.tries += 1
        status, headers, _ = self.client.call("GET", upload.location)
        if status == 204 and upload.stands(headers) < upload.size and upload.tries < 4:
            complete(self.client, self.repo, upload, headers)
        self.repo.upload = None

    def push_garbage(self):
        """A blob that nothing refers to: new, or once more one that may be collected right now."""
        began, old = time.monotonic(), sorted(self.repo.garbage())
        if old and self.random.random() < 0.7:
            seed, size = self.repo.blobs[self.random.choice(old)]
            self.repo.repushed += 1
            digest = self.push_blob(size, seed)
        else:
            digest = self.push_blob(self.random.choice([500, 20_000, 100_000]))
        self.head(self.repo.path(f"blobs/{digest}"), began)

    def damage_garbage(self):
        """An unused blob's file loses its end; nobody gets it so, and the next push heals it."""
        large = [d for d in sorted(self.repo.garbage()) if self.repo.blobs[d][1] > 65_536]
        if not large:
            return
        digest = self.random.choice(large)
        seed, size = self.repo.blobs.pop(digest)
        if not self.registry.damage(digest):
            return
        status, _, body = self.client.call("GET", self.repo.path(f"blobs/{digest}"))
        if status == 200 and sha256(body) != digest:
            raise Wrong("corrupt", f"the damaged blob {digest} is served")
        self.push_blob(size, seed)

    def head(self, path, began):
        """What was pushed since `began` and is not used yet is there, within its grace."""
        status, _, _ = self.client.call("HEAD", path)
        if status != 200 and time.monotonic() - began < self.registry.grace_s:
            raise Wrong("lost", f"{path} was pushed a moment ago, and answers {status}")

    def reuse_blob(self):
        """A blob of an earlier image, pushed to a second repository by a mount."""
        digest = self.random.choice(sorted(self.repo.held()))
        began, other = time.monotonic(), f"{self.repo.name}/mounted"
        status, headers, _ = self.client.must(
            (201, 202), "POST",
            f"/v2/{other}/blobs/uploads/?mount={digest}&from={self.repo.name}", b"")
        if status == 202:
            raise Wrong("lost", f"mount of {digest} from {self.repo.name} was refused")
        self.head(f"/v2/{other}/blobs/{digest}", began)
        return digest

    # -- documents

    def push_image(self):
        draw = self.random.random()
        sizes = [self.random.randrange(2, 20_000) for _ in range(self.random.randrange(1, 3))]
        if self.random.random() < self.medium:
            sizes.append(200_000)
        if self.random.random() < self.large:
            sizes.append(5_000_000)
        began = time.monotonic()
        layers = [self.push_blob(size) for size in sizes]
        if draw > 0.9 and self.repo.documents:
            layers.append(self.reuse_blob())
        elif 0.8 < draw < 0.9 and self.repo.garbage():
            seed, size = self.repo.blobs[self.random.choice(sorted(self.repo.garbage()))]
            self.repo.repushed += 1
            layers.append(self.push_blob(size, seed))
        config = self.push_blob(self.random.randrange(100, 3000))
        document = self.describe(config, layers)
        self.put_document(document, self.pick_tag(), began)
        self.pushes += 1
        self.acknowledged.release()
        if draw < 0.25 and len(self.repo.documents) > 3:
            self.delete_document()
        elif draw < 0.35 and len(self.repo.tags) > 3:
            self.delete_tag()

    def describe(self, config, layers, note=""):
        """An image of these blobs."""
        def descriptor(kind, digest):
            return {"mediaType": kind, "digest": digest, "size": self.repo.blobs[digest][1]}
        return json.dumps({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, config),
            "layers": [descriptor(OCI_LAYER, layer) for layer in layers],
            "annotations": {"note": note}}).encode()

    def pick_tag(self):
        draw = self.random.random()
        live = self.repo.live_tags()
        if draw < 0.1:
            return None         # by digest alone
        if draw < 0.3 and live:
            return self.random.choice(live)
        return f"t{len(self.repo.tags) + len(self.repo.unsure_tags)}-{self.random.randrange(1000)}"

    def put_document(self, document, tag, began):
        repo, digest = self.repo, sha256(document)
        old = repo.tags.get(tag)
        repo.unsure.add(digest)
        repo.recent.add(digest)
        repo.documents[digest] = document
        if tag:
            repo.unsure_tags[tag] = {old, digest} | repo.unsure_tags.get(tag, set())
            repo.recent_tags.add(tag)
        while True:
            status, _, text = self.client.call(
                "PUT", repo.path(f"manifests/{tag or digest}"), document,
                {"Content-Type": OCI_MANIFEST})
            if status == 201:
                break
            if time.monotonic() - began < self.registry.grace_s or b"BLOB_UNKNOWN" not in text:
                raise Wrong("refused", f"manifest {digest} answered {status}: {text[:200]!r}")
            # It took longer than the grace: what was uploaded may be collected by now.
            began = time.monotonic()
            for part in parts(document):
                self.push_blob(repo.blobs[part["digest"]][1], repo.blobs[part["digest"]][0])
        repo.unsure.discard(digest)
        if tag:
            del repo.unsure_tags[tag]
            repo.tags[tag] = digest

    def delete_document(self):
        repo = self.repo
        unsure = repo.unsure.union(*repo.unsure_tags.values())
        sure = [digest for digest in repo.documents if digest not in unsure]
        if not sure:
            return
        digest = self.random.choice(sure)
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
        live = repo.live_tags()
        if not live:
            return
        tag = self.random.choice(live)
        repo.unsure_tags[tag] = {repo.tags[tag], None}
        repo.recent_tags.add(tag)
        self.client.must((202,), "DELETE", repo.path(f"manifests/{tag}"))
        del repo.unsure_tags[tag]
        repo.tags[tag] = None


def complete(client, repository, upload, headers):
    """Sends what is missing of an upload whose state these headers tell, and ends it."""
    data = content(upload.seed, upload.size)
    digest = sha256(data)
    repository.tried.add(digest)
    _, headers, _ = client.must((202,), "PATCH", headers["Location"] or upload.location,
                                data[upload.stands(headers):], OCTETS)
    location = headers["Location"]
    joint = "&" if "?" in location else "?"
    client.must((201,), "PUT", f"{location}{joint}digest={digest}", b"", OCTETS)
    repository.blobs[digest] = (upload.seed, upload.size)
    return digest


class Straggler(Pusher):
    """An image whose manifest is half sent when the server is asked to stop: it is to be finished.
    Its blobs are those of an image before, so nothing about them is in doubt."""

    def __init__(self, registry, repository, seed, stopping):
        super().__init__(registry, repository, seed, threading.Semaphore(0), stopping)
        self.half_sent = threading.Event()

    def run(self):
        try:
            began = time.monotonic()
            config, layer = self.push_blob(500), self.push_blob(150_000)
            self.put_document(self.describe(config, [layer], "early"), "early", began)
            self.send_late(self.describe(config, [layer], "late"))
        except (Cut, Wrong, OSError, http.client.HTTPException) as error:
            self.failure = f"a request that was running at SIGTERM: {error!r}"
        self.half_sent.set()

    def send_late(self, document):
        repo, wire, half = self.repo, self.client.http, len(document) // 2
        digest = sha256(document)
        repo.documents[digest] = document
        repo.unsure.add(digest)
        repo.unsure_tags["late"] = {digest, None}
        wire.putrequest("PUT", repo.path("manifests/late"))
        for name, value in [("Content-Type", OCI_MANIFEST), ("Content-Length", len(document))]:
            wire.putheader(name, str(value))
        wire.endheaders()
        wire.send(document[:half])
        self.half_sent.set()
        self.stopping.wait()
        time.sleep(0.3)
        wire.send(document[half:])
        response = wire.getresponse()
        if response.status != 201:
            raise Wrong("refused", f"it was answered {response.status}: {response.read()[:200]!r}")
        repo.unsure.discard(digest)
        del repo.unsure_tags["late"]
        repo.tags["late"] = digest
