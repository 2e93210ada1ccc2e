#!/usr/bin/env python3
"""Images for the client tests: makes them, compares them, and reads them back over plain HTTP.

    images.py make FOLDER BUSYBOX            OCI layouts FOLDER/single, FOLDER/multi (two platforms),
                                             FOLDER/plain (layers not compressed)
    images.py compare LAYOUT LAYOUT [TAG]    the same digest and the same bytes of everything below
    images.py verify ADDRESS REPOSITORY REFERENCE LAYOUT [TAG]
                                             the registry serves exactly what the layout holds
    images.py whole ADDRESS REPOSITORY REFERENCE
                                             everything below a reference is there and hashes right
    images.py cache ADDRESS REPOSITORY       a BuildKit cache: an index whose children are blobs

Everything is made from fixed contents and times, so two runs make the same digests.
"""
import gzip, hashlib, io, json, os, random, sys, tarfile, urllib.request  # noqa: E401

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER = "application/vnd.docker.distribution.manifest."
DOCUMENTS = (INDEX, MANIFEST, DOCKER + "v2+json", DOCKER + "list.v2+json")
CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"


def sha256(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type, data, **more):
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


# ------------------------------------------------------------------------------------- layouts

class Layout:
    """A folder of the OCI image layout."""

    def __init__(self, folder):
        self.folder = folder

    def path(self, digest):
        return os.path.join(self.folder, "blobs", *digest.split(":"))

    def write(self, data):
        path = self.path(sha256(data))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    def read(self, digest):
        with open(self.path(digest), "rb") as file:
            return file.read()

    def finish(self, root):
        for name, value in (("oci-layout", {"imageLayoutVersion": "1.0.0"}),
                            ("index.json", {"schemaVersion": 2, "mediaType": INDEX,
                                            "manifests": [root]})):
            with open(os.path.join(self.folder, name), "w") as file:
                json.dump(value, file)

    def root(self, tag=None):
        with open(os.path.join(self.folder, "index.json")) as file:
            found = json.load(file)["manifests"]
        named = [d for d in found
                 if d.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag]
        chosen = (named or found) if tag else found
        if len(chosen) != 1:
            sys.exit(f"{self.folder}: {len(chosen)} roots, not one")
        return chosen[0]


def layer(files):
    """A layer of {path: bytes | symlink target}; executables below bin/."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.mtime, entry.mode = 1_000_000_000, 0o755 if path.startswith("bin/") else 0o644
            if isinstance(data, str):
                entry.type, entry.linkname, data = tarfile.SYMTYPE, data, b""
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return raw.getvalue()


def image(layout, architecture, layers, plain=False, **platform):
    config = json.dumps({
        "created": "2001-09-09T01:46:40Z", "architecture": architecture, "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [sha256(raw) for raw in layers]},
        "history": [{"created_by": f"layer {n}"} for n in range(len(layers))],
    }).encode()
    packed = layers if plain else [gzip.compress(raw, mtime=0) for raw in layers]
    media_type = LAYER.removesuffix("+gzip") if plain else LAYER
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config),
        "layers": [descriptor(media_type, data) for data in packed],
    }, indent=1).encode()
    for data in (config, *packed, manifest):
        layout.write(data)
    return descriptor(MANIFEST, manifest, **platform)


def make(folder, busybox):
    with open(busybox, "rb") as file:
        program = file.read()
    base = layer({"bin/busybox": program, "bin/sh": "busybox", "bin/cat": "busybox"})
    noise = layer({"data/noise": random.Random(7).randbytes(300_000)})
    name = {"org.opencontainers.image.ref.name": "latest"}

    single = Layout(os.path.join(folder, "single"))
    layers = [base, noise, layer({"hello": b"hello from single\n"})]
    single.finish({**image(single, "amd64", layers), "annotations": name})

    plain = Layout(os.path.join(folder, "plain"))
    layers = [layer({"more": random.Random(8).randbytes(200_000)}), layer({"less": b"x" * 50_000})]
    plain.finish({**image(plain, "amd64", layers, plain=True), "annotations": name})

    multi = Layout(os.path.join(folder, "multi"))
    children = []
    for architecture in ("amd64", "arm64"):
        layers = [base, layer({"hello": f"hello from {architecture}\n".encode()})]
        platform = {"architecture": architecture, "os": "linux"}
        children.append(image(multi, architecture, layers, platform=platform))
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
    multi.write(index)
    multi.finish({**descriptor(INDEX, index), "annotations": name})


# ----------------------------------------------------------------------------- walks and checks

def below(document):
    """The descriptors that a document refers to; an empty list for a blob."""
    parsed = json.loads(document)
    config = [parsed["config"]] if "config" in parsed else []
    return config + parsed.get("layers", []) + parsed.get("manifests", [])


def walk(root, read):
    """Yields (descriptor, bytes) of everything below `root`, the root first."""
    queue = [root]
    while queue:
        one = queue.pop()
        data = read(one)
        if sha256(data) != one["digest"] or len(data) != one["size"]:
            sys.exit(f"{one['digest']}: {len(data)} bytes that hash to {sha256(data)}")
        yield one, data
        if one["mediaType"] in DOCUMENTS:
            queue += below(data)


def compare(left, right, tag=None):
    left, right = Layout(left), Layout(right)
    if left.root(tag)["digest"] != right.root(tag)["digest"]:
        sys.exit(f"{left.root(tag)['digest']} became {right.root(tag)['digest']}")
    count = 0
    for one, data in walk(left.root(tag), lambda d: left.read(d["digest"])):
        count += 1
        if right.read(one["digest"]) != data:
            sys.exit(f"{one['digest']} differs")
    print(f"{count} contents are the same")


class Remote:
    """A repository over plain HTTP."""

    def __init__(self, address, repository):
        self.base = f"http://{address}/v2/{repository}/"

    def call(self, method, path, data=None, media_type="application/octet-stream"):
        headers = {"Accept": ", ".join(DOCUMENTS), "Content-Type": media_type}
        url = path if path.startswith("http") else self.base + path
        request = urllib.request.Request(url, data, headers, method=method)
        with urllib.request.urlopen(request) as response:
            return response.headers, response.read()

    def read(self, one):
        kind = "manifests" if one["mediaType"] in DOCUMENTS else "blobs"
        headers, data = self.call("GET", f"{kind}/{one['digest']}")
        if kind == "manifests" and headers["Content-Type"] != one["mediaType"]:
            sys.exit(f"{one['digest']}: served as {headers['Content-Type']}")
        return data

    def resolve(self, reference):
        headers, data = self.call("GET", f"manifests/{reference}")
        if headers["Docker-Content-Digest"] != sha256(data):
            sys.exit(f"{reference}: Docker-Content-Digest is {headers['Docker-Content-Digest']}")
        return descriptor(headers["Content-Type"], data)

    def push_blob(self, data):
        headers, _ = self.call("POST", "blobs/uploads/", b"")
        location = headers["Location"]
        if location.startswith("/"):
            location = self.base[:self.base.index("/v2/")] + location
        joint = "&" if "?" in location else "?"
        self.call("PUT", f"{location}{joint}digest={sha256(data)}", data)


def verify(address, repository, reference, layout, tag=None):
    remote, layout = Remote(address, repository), Layout(layout)
    found, wanted = remote.resolve(reference), layout.root(tag)
    if found["digest"] != wanted["digest"]:
        sys.exit(f"{reference} is {found['digest']}, not {wanted['digest']}")
    count = 0
    for one, data in walk(wanted, lambda d: layout.read(d["digest"])):
        count += 1
        if remote.read(one) != data:
            sys.exit(f"{one['digest']} is served with other bytes")
    print(f"{count} contents are served as they are")


def whole(address, repository, reference):
    remote = Remote(address, repository)
    root = remote.resolve(reference)
    print(root["mediaType"], root["digest"], sum(1 for _ in walk(root, remote.read)))


def cache(address, repository):
    """What BuildKit exported before image manifests: `manifests` that are no manifests."""
    remote = Remote(address, repository)
    layers = [gzip.compress(layer({f"cache{n}": b"x" * 1000 * n}), mtime=0) for n in (1, 2)]
    settings = json.dumps({"layers": [{"blob": sha256(data)} for data in layers]}).encode()
    children = [descriptor(LAYER, data) for data in layers]
    children.append(descriptor(CACHE_CONFIG, settings))
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
    for data in (*layers, settings):
        remote.push_blob(data)
    remote.call("PUT", "manifests/cache", index, INDEX)
    found = remote.resolve("cache")
    if found != descriptor(INDEX, index):
        sys.exit(f"the cache index came back as {found}")
    print(f"{sum(1 for _ in walk(found, remote.read))} contents of the cache are served")


if __name__ == "__main__":
    commands = {f.__name__: f for f in (make, compare, verify, whole, cache)}
    if len(sys.argv) < 3 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    commands[sys.argv[1]](*sys.argv[2:])
