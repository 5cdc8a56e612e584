"""Statements signed with a local key: ed25519 in a DSSE envelope, made and checked by securesystemslib (`apr[attest]`).

Reading an envelope's payload needs no library; believing its signature does.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apr import _atomic
from apr.errors import BadMetadata, FormatError, MissingDependency, UsageError
from apr.ledger._statement import MAX_BYTES, MEDIA_TYPE

if TYPE_CHECKING:
    from securesystemslib.signer import SSlibKey

PUBLIC_END = ".pub"
_MAX_KEY_BYTES = 1 << 16


def make_key(path: Path) -> tuple[Path, Path]:
    """A new private key at `path`, which only its owner can read, and the public one beside it, both PEM.

    Raises UsageError if one of them is there already, MissingDependency.
    """
    _securesystemslib("signer")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public_path = path.with_name(path.name + PUBLIC_END)
    for there in (path, public_path):
        if there.exists():
            raise UsageError(f"{there} is there already; a key is never written over, give another name")
    made = Ed25519PrivateKey.generate()
    private = made.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    public = made.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
    # the system refuses a second writer, and nobody else can read it even for a moment
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(private)
    _atomic.write_bytes(public_path, public)
    return path, public_path


def sign(statement: bytes, private_key: Path) -> tuple[bytes, str]:
    """The envelope's bytes and the id of the key. Raises UsageError for what is no private ed25519 key, MissingDependency."""
    signer, dsse = _securesystemslib("signer"), _securesystemslib("dsse")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(_key_bytes(private_key), password=None)
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{private_key}: no private key in PEM ({exc}); apr evidence key FILE makes one") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{private_key}: a {type(key).__name__}, expected ed25519; apr evidence key FILE makes one")
    hand = signer.CryptoSigner(key)
    envelope = dsse.Envelope(statement, MEDIA_TYPE, {})
    signature = envelope.sign(hand)
    return (json.dumps(envelope.to_dict(), indent=2) + "\n").encode("ascii"), str(signature.keyid)


def why_not_signed_by(envelope: Path, public_key: Path) -> str | None:
    """Why a key does not vouch for an envelope; None if it does. Raises UsageError for what is no public key, MissingDependency."""
    dsse, exceptions = _securesystemslib("dsse"), _securesystemslib("exceptions")
    key = read_public_key(public_key)
    try:
        dsse.Envelope.from_dict(_read(envelope)).verify([key], 1)
    except exceptions.VerificationError:
        return f"not signed by {public_key.name} (key {key.keyid[:12]}…), or changed afterwards; ask its signer"
    except (KeyError, ValueError, TypeError, exceptions.FormatError) as exc:
        return f"the signatures cannot be read ({type(exc).__name__}: {exc}); sign it again"
    return None


def read_public_key(path: Path) -> SSlibKey:
    """Raises UsageError for what is no public ed25519 key, MissingDependency."""
    signer = _securesystemslib("signer")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_key_bytes(path))
    except (ValueError, TypeError) as exc:
        raise UsageError(f"{path}: no public key in PEM ({exc}); give the file that ends in {PUBLIC_END}") from exc
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{path}: a {type(key).__name__}, expected ed25519; give the file that ends in {PUBLIC_END}")
    found: SSlibKey = signer.SSlibKey.from_crypto(key)
    return found


def payload_of(envelope: Path) -> bytes:
    """The bytes that were signed. Raises FormatError for what is no envelope of a Statement."""
    document = _read(envelope)
    if document.get("payloadType") != MEDIA_TYPE or not isinstance(document.get("payload"), str):
        raise BadMetadata(envelope, f"no envelope of {MEDIA_TYPE}; sign the statement again")
    try:
        return base64.b64decode(document["payload"], validate=True)
    except (binascii.Error, ValueError) as exc:
        raise FormatError(
            envelope, f"the payload is no base64 ({exc}); it was changed, sign the statement again"
        ) from exc


def _read(path: Path) -> dict[str, Any]:
    from apr.formats import _json
    from apr.formats._documents import read_limited

    return _json.parse_object(
        path, read_limited(path, max_bytes=2 * MAX_BYTES), what="the envelope", max_bytes=2 * MAX_BYTES
    )


def _key_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_KEY_BYTES)
    except OSError as exc:
        raise UsageError(f"{path}: {exc.strerror}; give the file of a key, apr evidence key FILE makes one") from exc


def _securesystemslib(module: str) -> Any:
    try:
        import cryptography  # noqa: F401 - what computes; without it securesystemslib imports and cannot sign

        if module == "signer":
            from securesystemslib import signer as found
        elif module == "dsse":
            from securesystemslib import dsse as found
        else:
            from securesystemslib import exceptions as found
    except ImportError as exc:
        raise MissingDependency("securesystemslib", extra="attest") from exc
    return found
