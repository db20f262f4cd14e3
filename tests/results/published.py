"""A shard's run directory with closed files, made by hand, and the publishing of it."""

import hashlib
import json
import time
import uuid

from specbatch.backoff import Backoff
from specbatch.results.layout import ShardFile
from specbatch.results.manifest import FileEntry, Manifest, write_manifest
from specbatch.results.publish.destination import Destination
from specbatch.results.publish.publish import Publisher
from specbatch.results.storage.folder import Folder
from specbatch.results.totals import Totals
from tests.results.builders import IDENTITY

QUICK = Backoff(first=0.02, longest=0.1)


def memory_uri():
    return f"memory://{uuid.uuid4().hex}/nightly"


class ShardDir:
    """One shard's files under `run_dir`, and what publishes them."""

    def __init__(self, run_dir, shard=0, shards=1, identity=IDENTITY):
        self.run_dir = run_dir
        self.identity = identity
        self.file = ShardFile("identity", shard, shards)
        run_dir.mkdir(parents=True, exist_ok=True)
        self.entries = []

    def claim(self):
        (self.run_dir / self.file.name).write_text(json.dumps(self.identity.to_json()))

    def close(self, sequence, data=None, kind="part"):
        """A closed file of rows."""
        name = ShardFile(kind, self.file.shard, self.file.shards, sequence).name
        data = f"{name} {sequence}\n".encode() * 3 if data is None else data
        (self.run_dir / name).write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        entry = FileEntry(name=name, rows=data.count(b"\n"), bytes=len(data), sha256=digest)
        self.entries.append(entry)
        return entry

    def end(self, *, complete=True):
        """Writes the manifest."""
        manifest = Manifest(
            name="nightly",
            shard=self.file.shard,
            shards=self.file.shards,
            complete=complete,
            identity=self.identity,
            files=self.entries,
            totals=Totals(results=sum(entry.rows for entry in self.entries)),
        )
        write_manifest(self.run_dir, manifest)

    def destination(self, uri, *, seconds=10.0, fresh=False):
        return Destination(Folder(uri, seconds=seconds), self.run_dir, self.file, self.identity, fresh=fresh)

    def publisher(self, uri, say=lambda line: None, *, backoff=QUICK, **options):
        """Started, with every closed file offered."""
        self.claim()
        publisher = Publisher(self.destination(uri, **options), say=say, backoff=backoff)
        for entry in self.entries:
            publisher.offer(entry)
        publisher.start()
        return publisher

    def publish(self, uri, *, complete=True, seconds=5.0, **options):
        """From start to end."""
        self.end(complete=complete)
        publisher = self.publisher(uri, **options)
        publisher.finish(seconds=seconds)
        return publisher


def wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def listed(uri, shard=0, shards=1):
    """What the published manifest lists: name -> sha256; every one must be there as listed."""
    folder = Folder(uri)
    value = json.loads(folder.read(ShardFile("manifest", shard, shards).name))
    for entry in value["files"]:
        data = folder.read(entry["name"])
        assert (len(data), data.count(b"\n")) == (entry["bytes"], entry["rows"])
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    return {entry["name"]: entry["sha256"] for entry in value["files"]}
