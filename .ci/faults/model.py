"""What the pushers of a crash test know: what was acknowledged, and what may be either way."""
import hashlib, random  # noqa: E401

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def content(seed, size):
    """Bytes that can be made again from their seed, so that memory holds no layer."""
    return random.Random(seed).randbytes(size)


class Wrong(Exception):
    """Something acknowledged is not as it was.

    kind: lost (not there), corrupt (other bytes), unpullable (listed, but not whole), revived
    (deleted, but there), refused (an answer that no registry may give), upload (a resumed upload
    does not stand where it stood), staging (more uploads on disk than anybody knows), stuck
    (the server does not start).
    about: the image or tag, so that one that is wrong in several places is counted once.
    """

    def __init__(self, kind, text, about=None):
        super().__init__(text)
        self.kind, self.text, self.about = kind, text, about or text

    def __str__(self):
        return f"{self.kind.upper()} {self.text}"


class Cut(Exception):
    """The server went away in the middle of a request: its effect is unknown."""


class Upload:
    """An upload that was begun: where it is, what it will be, how far it is known to be."""

    def __init__(self, location, seed, size):
        self.location, self.seed, self.size = location, seed, size
        self.acknowledged = self.sent = 0   # bytes
        self.tries = 0

    @staticmethod
    def stands(headers):
        """How many bytes the registry says to have; one byte looks like none."""
        end = (headers["Range"] or "").rpartition("-")[2]
        return int(end) + 1 if end.isdigit() and end != "0" else 0


class Repository:
    """What one pusher knows about its repository; only one thread at a time changes it."""

    def __init__(self, name):
        self.name = name
        self.tried = set()      # digests of blobs of which an upload was begun
        self.blobs = {}         # digest -> (seed, size): acknowledged, and not found collected
        self.documents = {}     # digest -> bytes: acknowledged
        self.deleted = set()    # digests of documents whose deletion was acknowledged
        self.tags = {}          # tag -> digest, or None when its deletion was acknowledged
        self.unsure_tags = {}   # tag -> digests (or None) that it may have now
        self.unsure = set()     # digests of documents that may be there or not
        self.recent = set()     # digests of documents since the last check
        self.recent_tags = set()
        self.forgiven = set()   # tags that were found wrong once; they are not counted again
        self.upload = None      # the one in progress
        self.kept_upload = None  # one that is left alone over the next kill
        self.collected = 0      # blobs found collected
        self.repushed = 0       # of garbage, with or without its file

    def path(self, rest):
        return f"/v2/{self.name}/{rest}"

    def held(self):
        """Digests of the blobs that a document needs."""
        return {part["digest"] for document in self.documents.values()
                for part in parts(document)}

    def live_tags(self):
        """Tags that are known to be there."""
        return [tag for tag, digest in self.tags.items() if digest and tag not in self.unsure_tags]

    def garbage(self):
        """Digests of acknowledged blobs that no document needs: there, or collected."""
        return self.blobs.keys() - self.held()

    def forgive(self, digest):
        """Forgets a document that was found wrong, so that it is counted once."""
        self.documents.pop(digest, None)
        self.deleted.discard(digest)
        self.recent.discard(digest)
        for tag in [tag for tag, at in self.tags.items() if at == digest]:
            self.forgive_tag(tag)

    def forgive_tag(self, tag):
        self.tags.pop(tag, None)
        self.recent_tags.discard(tag)
        self.forgiven.add(tag)


_parts = {}


def parts(document):
    """The descriptors of an image's config and layers."""
    import json
    found = _parts.get(document)
    if found is None:
        parsed = json.loads(document)
        found = _parts[document] = [parsed["config"], *parsed["layers"]]
    return found
