"""After a restart: is everything that was acknowledged there, and nothing that was deleted?"""
import json, random, threading, time  # noqa: E401

from load import Client, complete
from model import Cut, Wrong, content, parts, sha256

# Of documents and unused blobs from before, and of the newest unused blobs, at each check that is
# not full.
OLD_SAMPLES, NEW_SAMPLES = 6, 3
ORPHANS_LIMIT_S = 30


class Verifier:
    """Compares one repository with what its pusher knows.

    Everything at a full check; else what was touched since the last one, and a few others.
    """

    def __init__(self, registry, repository, full, seed):
        self.registry, self.repo, self.full = registry, repository, full
        self.client, self.random = Client(registry.port), random.Random(seed)
        self.wrong, self.checked = [], 0

    def run(self):
        try:
            self.attempt(self.end_upload, None)
            self.settle()
            self.check_all()
        except Cut as error:
            self.wrong.append(Wrong("refused", f"{self.repo.name}: {error}"))

    def check_all(self):
        repo = self.repo
        for tag in self.pick(repo.tags, repo.recent_tags):
            self.attempt(self.check_tag, tag, lambda tag=tag: repo.forgive_tag(tag))
        for digest in self.pick(repo.documents, repo.recent):
            self.attempt(self.check_document, digest, lambda d=digest: repo.forgive(d))
        for digest in self.pick(repo.deleted, repo.recent):
            self.attempt(self.check_deleted, digest, lambda d=digest: repo.deleted.discard(d))
        for digest in self.some_garbage():
            self.attempt(self.check_garbage, digest, lambda d=digest: repo.blobs.pop(d))
        if repo.kept_upload:
            self.attempt(self.resume, repo.kept_upload)
        self.check_list()
        repo.recent.clear()
        repo.recent_tags.clear()

    def some_garbage(self):
        """All at a full check; else the newest and a few others."""
        held = self.repo.held()
        garbage = [digest for digest in self.repo.blobs if digest not in held]
        if self.full:
            return garbage
        old, new = garbage[:-NEW_SAMPLES], garbage[-NEW_SAMPLES:]
        return new + self.random.sample(old, min(OLD_SAMPLES, len(old)))

    def attempt(self, check, item, forgive=None):
        self.checked += 1
        try:
            check(item)
        except Wrong as error:
            self.note(error.kind, error.text, error.about)
            if forgive:
                forgive()

    def note(self, kind, text, about=None):
        self.wrong.append(Wrong(kind, f"{self.repo.name}: {text}", about))

    def pick(self, everything, recent):
        if self.full:
            return sorted(everything)
        new = recent.intersection(everything)
        old = sorted(set(everything) - new)
        return sorted(new) + self.random.sample(old, min(OLD_SAMPLES, len(old)))

    def end_upload(self, _):
        """An upload that was cut is cancelled, as a client that gives up does."""
        upload, self.repo.upload = self.repo.upload, None
        if upload and self.registry.resumes:
            self.client.must((202, 204, 404), "DELETE", upload.location)

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
                self.note("corrupt", f"cut document {digest} is there in part: {status}", digest)
                repo.forgive(digest)
        repo.unsure.clear()
        for tag, possible in sorted(repo.unsure_tags.items()):
            status, headers, _ = self.client.call("GET", repo.path(f"manifests/{tag}"))
            digest = headers["Docker-Content-Digest"] if status == 200 else None
            repo.tags[tag] = digest
            if status not in (200, 404) or digest not in possible:
                kind = "lost" if digest is None else "corrupt"
                self.note(kind, f"cut tag {tag} is {status} {digest}, of {possible}", tag)
                repo.forgive_tag(tag)
            elif self.registry.atomic:
                self.check_together(tag, digest, possible.intersection(there), there)
        repo.unsure_tags.clear()

    def check_together(self, tag, digest, documents, there):
        for document in documents:
            if (digest == document) != there[document]:
                self.note("corrupt", f"{document} and its tag {tag} changed apart")

    def check_tag(self, tag):
        wanted = self.repo.tags[tag]
        status, _, body = self.client.call("GET", self.repo.path(f"manifests/{tag}"))
        if wanted is None:
            if status != 404:
                raise Wrong("revived", f"tag {tag} was deleted, and answers {status}")
        elif status != 200:
            raise Wrong("lost", f"tag {tag} of {wanted} answers {status}", wanted)
        elif sha256(body) != wanted:
            raise Wrong("corrupt", f"tag {tag} is not {wanted} but {sha256(body)}", wanted)

    def check_document(self, digest):
        document = self.repo.documents[digest]
        self.check_bytes(f"manifests/{digest}", document, digest)
        for part in parts(document):
            wanted = self.repo.blobs.get(part["digest"])
            if wanted is None:
                raise Wrong("lost", f"blob {part['digest']} of {digest} was collected", digest)
            self.check_bytes(f"blobs/{part['digest']}", content(*wanted), digest)

    def check_bytes(self, path, wanted, image):
        status, _, body = self.client.call("GET", self.repo.path(path))
        if status != 200:
            raise Wrong("lost", f"{path} of {image} answers {status}", image)
        if body != wanted:
            raise Wrong("corrupt", f"{path} of {image} has {len(body)} other bytes", image)

    def check_deleted(self, digest):
        status, _, _ = self.client.call("GET", self.repo.path(f"manifests/{digest}"))
        if status != 404:
            raise Wrong("revived", f"{digest} was deleted, and answers {status}")

    def check_garbage(self, digest):
        """Collected or whole; collected for ever, unless it is pushed again."""
        status, _, body = self.client.call("GET", self.repo.path(f"blobs/{digest}"))
        if status == 404 and self.registry.collects:
            self.repo.collected += 1
            del self.repo.blobs[digest]
        elif status != 200:
            raise Wrong("lost", f"blob {digest} that nobody uses answers {status}")
        elif body != content(*self.repo.blobs[digest]):
            raise Wrong("corrupt", f"blob {digest} that nobody uses has {len(body)} other bytes")

    def resume(self, upload):
        """An upload goes on where it stood: all that was acknowledged, no more than was sent."""
        self.repo.kept_upload = None
        status, headers, _ = self.client.call("GET", upload.location)
        if status != 204 or not upload.acknowledged <= upload.stands(headers) <= upload.sent:
            raise Wrong("upload", f"upload of {upload.acknowledged} bytes answers {status} "
                                  f"Range {headers['Range']}")
        digest = complete(self.client, self.repo, upload, headers)
        self.check_bytes(f"blobs/{digest}", content(upload.seed, upload.size), "a resumed upload")

    def check_list(self):
        """The list has every tag, and whatever is listed can be pulled."""
        self.checked += 1
        repo = self.repo
        wanted = {tag for tag, digest in repo.tags.items() if digest} - repo.forgiven
        status, got, path = 200, [], repo.path("tags/list")
        while path and status == 200:
            status, headers, body = self.client.call("GET", path)
            got += json.loads(body).get("tags") or [] if status == 200 else []
            link = headers.get("Link")
            path = link.split(">")[0].lstrip(" <") if link else None
        if status not in (200, 404):
            self.note("refused", f"the list of tags answers {status}")
            return
        for tag in sorted(wanted - set(got)):
            self.note("lost", f"tag {tag} is not listed", repo.tags[tag])
            repo.forgive_tag(tag)
        for tag in sorted(set(got) - wanted - repo.forgiven):
            self.check_listed(tag)

    def check_listed(self, tag):
        repo = self.repo
        status, headers, body = self.client.call("GET", repo.path(f"manifests/{tag}"))
        digest = headers["Docker-Content-Digest"]
        if status == 200:
            self.note("revived", f"tag {tag} of {digest} is listed, and was never acknowledged "
                                 "or is deleted")
        else:
            self.note("unpullable", f"tag {tag} is listed, and answers {status}")
        repo.forgive_tag(tag)


def verify(registry, repositories, full, chance):
    """How much was compared, and what is wrong."""
    verifiers = [Verifier(registry, repository, full, chance.getrandbits(64))
                 for repository in repositories]
    threads = [threading.Thread(target=verifier.run) for verifier in verifiers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return (sum(verifier.checked for verifier in verifiers),
            [wrong for verifier in verifiers for wrong in verifier.wrong])


def check_staging(registry, repositories):
    """No upload is on disk that no client knows of. What is written right now comes and goes."""
    known = sum(1 for repository in repositories if repository.kept_upload)
    limit = time.monotonic() + 5
    while (found := registry.staged()) > known:
        if time.monotonic() > limit:
            return [Wrong("staging", f"{found} uploads are staged, {known} are known")]
        time.sleep(0.02)
    return []


def orphans(registry, repositories):
    """Files of blobs that were pushed to a repository and that it does not know."""
    owner = {digest: repository for repository in repositories for digest in repository.tried}
    client, found = Client(registry.port), set()
    for digest in registry.blob_files():
        repository = owner.get(digest)
        if repository is None:      # a manifest, in no repository's list of blobs
            continue
        names = (repository.name, f"{repository.name}/mounted")
        if all(client.call("HEAD", f"/v2/{name}/blobs/{digest}")[0] == 404 for name in names):
            found.add(digest)
    return found


def count_orphans(registry, repositories):
    """As above, once the collector has nothing more to do."""
    found, limit = orphans(registry, repositories), time.monotonic() + ORPHANS_LIMIT_S
    while registry.collects and found and time.monotonic() < limit:
        time.sleep(2.5)
        before, found = found, orphans(registry, repositories)
        if found == before:
            break
    return len(found)
