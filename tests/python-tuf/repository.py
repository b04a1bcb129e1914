"""A TUF repository made by python-tuf, served over HTTP on loopback, changed step by step.

Prints its address, then for each line on standard input does that step and prints one line of JSON. Metadata is served
as `/metadata/<version>.<role>.json`, targets as `/targets/<folder>/<hash>.<name>`: consistent snapshots.
"""

import copy
import json
import sys
import threading
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
FIRST = "models/first.bin"
DELEGATED = "team/second.bin"


class Repository:
    """Everything that is signed and served."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.requests: list[str] = []
        # One key of each kind that TUF's own tools make.
        self.signers = {
            "root": [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()],
            "timestamp": [CryptoSigner.generate_ecdsa()],
            "snapshot": [CryptoSigner.generate_ed25519()],
            "targets": [CryptoSigner.generate_rsa()],
            "team": [CryptoSigner.generate_ed25519()],
        }
        self.root = Root(expires=EXPIRES, consistent_snapshot=True)
        for role in ["root", "timestamp", "snapshot", "targets"]:
            for signer in self.signers[role]:
                self.root.add_key(signer.public_key, role)
        self.root.roles["root"].threshold = 2
        team = DelegatedRole("team", [], 1, True, ["team/*"])
        self.targets = Targets(expires=EXPIRES, delegations=Delegations({}, {"team": team}))
        self.targets.add_key(self.signers["team"][0].public_key, "team")
        self.team = Targets(expires=EXPIRES)
        self.snapshot = Snapshot(expires=EXPIRES)
        self.timestamp = Timestamp(expires=EXPIRES)
        self.write_root(self.signers["root"])
        self.list_target(self.targets, FIRST, b"the first target", ["sha256"])
        self.list_target(self.team, DELEGATED, b"a target of the team" * 10_000, ["sha512"])
        self.publish()

    def signed(self, role, signers) -> bytes:
        metadata = Metadata(copy.deepcopy(role))
        for signer in signers:
            metadata.sign(signer, append=True)
        return metadata.to_bytes(JSONSerializer(compact=False))

    def write_root(self, signers) -> None:
        self.files[f"metadata/{self.root.version}.root.json"] = self.signed(self.root, signers)

    def list_target(self, role, path: str, data: bytes, algorithms: list[str]) -> None:
        target = TargetFile.from_data(path, data, algorithms)
        role.targets[path] = target
        folder, name = path.rsplit("/", 1)
        for digest in target.hashes.values():
            self.files[f"targets/{folder}/{digest}.{name}"] = data

    def publish(self) -> None:
        """Signs every role but root as it is, under the versions that are set."""
        pinned = {"targets": self.targets, "team": self.team}
        for name, role in pinned.items():
            data = self.signed(role, self.signers[name])
            self.files[f"metadata/{role.version}.{name}.json"] = data
            self.snapshot.meta[f"{name}.json"] = MetaFile.from_data(role.version, data, ["sha256"])
        data = self.signed(self.snapshot, self.signers["snapshot"])
        self.files[f"metadata/{self.snapshot.version}.snapshot.json"] = data
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, data, ["sha256"])
        self.files["metadata/timestamp.json"] = self.signed(self.timestamp, self.signers["timestamp"])

    def bump(self, *roles) -> None:
        for role in (*roles, self.snapshot, self.timestamp):
            role.version += 1

    # Steps. What a step returns is printed.

    def change(self):
        """The first target has other bytes now."""
        self.bump(self.targets)
        self.list_target(self.targets, FIRST, b"the first target, changed", ["sha256", "sha512"])
        self.publish()

    def rotate(self):
        """A new root: one root key and the key of timestamp are replaced."""
        before = list(self.signers["root"])
        self.root.version += 1
        self.root.revoke_key(before[0].public_key.keyid, "root")
        self.signers["root"] = [before[1], CryptoSigner.generate_ed25519()]
        self.root.add_key(self.signers["root"][1].public_key, "root")
        self.lost = self.signers["timestamp"]
        self.root.revoke_key(self.lost[0].public_key.keyid, "timestamp")
        self.signers["timestamp"] = [CryptoSigner.generate_ecdsa()]
        self.root.add_key(self.signers["timestamp"][0].public_key, "timestamp")
        self.write_root([*before, self.signers["root"][1]])
        self.bump()
        self.publish()

    def steal(self):
        """Whoever has the key of timestamp that was replaced signs a newer one."""
        self.honest = self.files["metadata/timestamp.json"]
        forged = copy.deepcopy(self.timestamp)
        forged.version += 1
        self.files["metadata/timestamp.json"] = self.signed(forged, self.lost)

    def heal(self):
        """The honest timestamp again."""
        self.files["metadata/timestamp.json"] = self.honest

    def go_back(self):
        """Targets of an older version, signed with the right keys."""
        self.bump()
        self.targets.version -= 1
        self.publish()

    def tamper(self):
        """The bytes of the team's target change, and nobody signs that."""
        for path in [p for p in self.files if p.startswith("targets/team/")]:
            self.files[path] = b"x" + self.files[path][1:]

    def taken(self):
        """What was asked for since the last time."""
        taken, self.requests = self.requests, []
        return taken

    def served(self):
        """The newest metadata of each role, as it is served."""
        newest = {
            "root": f"{self.root.version}.root",
            "timestamp": "timestamp",
            "snapshot": f"{self.snapshot.version}.snapshot",
            "targets": f"{self.targets.version}.targets",
            "team": f"{self.team.version}.team",
        }
        return {role: self.files[f"metadata/{name}.json"].decode() for role, name in newest.items()}


def serve(repository: Repository) -> str:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            repository.requests.append(self.path)
            data = repository.files.get(self.path.lstrip("/"))
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def main() -> None:
    repository = Repository()
    address = serve(repository)
    print(json.dumps({"address": address, "root": repository.files["metadata/1.root.json"].decode()}), flush=True)
    for line in sys.stdin:
        print(json.dumps(getattr(repository, line.strip())()), flush=True)


main()
