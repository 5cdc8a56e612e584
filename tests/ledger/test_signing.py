"""A signature vouches for every byte of a statement, by one key; without the library one clear sentence."""

from __future__ import annotations

import base64
import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from apr.cli import main
from apr.errors import FormatError, MissingDependency, UsageError
from apr.ledger import _index, _signing
from apr.ledger.evidence import Store
from evidence_runs import finished

STATEMENT = b'{"_type": "https://in-toto.io/Statement/v1"}\n'


def test_without_the_library_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "securesystemslib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "securesystemslib", None)
    for call in (
        lambda: _signing.make_key(tmp_path / "k"),
        lambda: _signing.sign(STATEMENT, tmp_path / "k"),
        lambda: _signing.read_public_key(tmp_path / "k"),
    ):
        with pytest.raises(MissingDependency, match=r"pip install 'apr\[attest\]'"):
            call()


def test_the_payload_is_read_without_the_library(tmp_path: Path) -> None:
    path = tmp_path / "x.dsse.json"
    payload = base64.b64encode(STATEMENT).decode()
    document = {"payloadType": "application/vnd.in-toto+json", "payload": payload, "signatures": []}
    path.write_text(json.dumps(document))
    assert _signing.payload_of(path) == STATEMENT
    for wrong in (
        document | {"payload": "!!"},
        document | {"payload": 7},
        document | {"payloadType": "text/plain"},
        [],
    ):
        path.write_text(json.dumps(wrong))
        with pytest.raises(FormatError):
            _signing.payload_of(path)


class TestWithTheLibrary:
    @pytest.fixture(autouse=True)
    def library(self) -> None:
        pytest.importorskip("cryptography")
        pytest.importorskip("securesystemslib")

    @pytest.fixture
    def keys(self, tmp_path: Path) -> tuple[Path, Path]:
        return _signing.make_key(tmp_path / "release.pem")

    def test_only_its_owner_can_read_a_private_key(self, keys: tuple[Path, Path]) -> None:
        private, public = keys
        assert stat.S_IMODE(private.stat().st_mode) == 0o600 and b"PRIVATE" in private.read_bytes()
        assert public.name == "release.pem.pub" and b"PUBLIC" in public.read_bytes()
        with pytest.raises(UsageError, match="never written over"):
            _signing.make_key(private)

    def test_a_statement_is_signed_and_believed_by_its_key_alone(
        self, store: Path, model: Path, keys: tuple[Path, Path], tmp_path: Path
    ) -> None:
        run = finished(store, model)
        private, public = keys
        assert [problem.kind for problem in Store(store).verify(key=public)] == ["signature_missing"]
        path, key_id = Store(store).sign(run, private)
        assert path.name == f"{run}.dsse.json" and key_id == _signing.read_public_key(public).keyid
        assert Store(store).entry(run).is_signed
        assert Store(store).verify(key=public) == [] and Store(store).verify() == []
        _, stranger = _signing.make_key(tmp_path / "stranger.pem")
        assert [problem.kind for problem in Store(store).verify(key=stranger)] == ["signature_wrong"]

    def test_a_signature_that_was_changed_or_taken_from_another_is_not_believed(
        self, store: Path, model: Path, keys: tuple[Path, Path]
    ) -> None:
        one, other = finished(store, model), finished(store, model)
        private, public = keys
        for run in (one, other):
            Store(store).sign(run, private)
        path = _index.envelope_path(store, one)
        whole = path.read_text()
        envelope = json.loads(whole)
        foreign = json.loads(_index.envelope_path(store, other).read_text())
        for signatures in (foreign["signatures"], [], [{"keyid": "x", "sig": "AAAA"}], [{}], 7):
            path.write_text(json.dumps(envelope | {"signatures": signatures}))
            assert [problem.kind for problem in Store(store).verify(key=public)] == ["signature_wrong"], signatures
        path.write_text(json.dumps(foreign))
        assert [problem.kind for problem in Store(store).verify(key=public)] == ["envelope_differs"]

    def test_the_commands_make_a_key_sign_and_verify(
        self, store: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        run, key = finished(store, model), str(tmp_path / "k")
        assert main(["evidence", "key", key, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["public_key"] == f"{key}.pub"
        assert main(["evidence", "verify", "--store", str(store), "--key", f"{key}.pub"]) == 1
        assert "signature_missing" in capsys.readouterr().out
        assert main(["evidence", "sign", run, "--key", key, "--store", str(store), "--json"]) == 0
        assert len(json.loads(capsys.readouterr().out)["key_id"]) == 64
        assert main(["evidence", "verify", "--store", str(store), "--key", f"{key}.pub"]) == 0
        assert f"signed by {key}.pub" in capsys.readouterr().out

    def test_openssl_believes_it_too(self, keys: tuple[Path, Path], tmp_path: Path) -> None:
        private, public = keys
        envelope = json.loads(_signing.sign(STATEMENT, private)[0])
        kind = envelope["payloadType"].encode()
        # the bytes that are signed: secure-systems-lab/dsse, protocol.md
        (tmp_path / "pae").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(STATEMENT), STATEMENT))
        (tmp_path / "sig").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(public), "-rawin"]
        files = ["-in", str(tmp_path / "pae"), "-sigfile", str(tmp_path / "sig")]
        assert subprocess.run([*command, *files], capture_output=True).returncode == 0
        (tmp_path / "pae").write_bytes(b"another")
        assert subprocess.run([*command, *files], capture_output=True).returncode != 0

    @pytest.mark.parametrize(
        "content", [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
    )
    def test_what_is_no_key_is_refused(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "k"
        path.write_bytes(content)
        with pytest.raises(UsageError, match="no private key"):
            _signing.sign(STATEMENT, path)
        with pytest.raises(UsageError, match="no public key"):
            _signing.read_public_key(path)

    def test_a_key_of_another_kind_is_refused(self, tmp_path: Path) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

        made = ec.generate_private_key(ec.SECP256R1())
        path = tmp_path / "k"
        path.write_bytes(made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        with pytest.raises(UsageError, match="expected ed25519"):
            _signing.sign(STATEMENT, path)
        path.write_bytes(made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
        with pytest.raises(UsageError, match="expected ed25519"):
            _signing.read_public_key(path)
        with pytest.raises(UsageError, match="give the file of a key"):
            _signing.read_public_key(tmp_path / "none")
