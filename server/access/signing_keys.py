"""The keys that sign our own access tokens.

There are two ways. ``JWT_ALGORITHM=HS256`` signs with ``JWT_SECRET``; while a secret is being replaced,
``JWT_SECRET_PREVIOUS`` still verifies. The asymmetric algorithms read ``JWT_KEYS_FILE``, a JWK Set (RFC 7517) with
private keys: the first one signs, all of them verify. The file is read again when it changes, so that the tokens of a
key that is taken out of it end within seconds and without a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, KeyParameters, OctKey, OKPKey, RSAKey

from server.access.jwt_verifier import KEY_TYPES
from server.access.remote_keys import is_short_rsa
from server.settings import Settings, SettingsError

MINIMUM_SECRET_BYTES: Final = 32
RSA_BITS: Final = 2048
MAX_KEYS: Final = 16


class SigningKeys:
    """Signs and verifies our tokens. Raises :class:`SettingsError` if the settings hold no safe key."""

    def __init__(self, settings: Settings) -> None:
        self.algorithm = settings.jwt_algorithm
        self._file: Path | None = None
        self._stamp: tuple[int, int] | None = None
        check_secret(settings.jwt_secret, "JWT_SECRET")  # it signs cursors even if another key signs tokens
        if self.algorithm == "HS256":
            self._keys = _secret_keys(settings)
            return
        if settings.jwt_keys_file is None:
            raise SettingsError(f"JWT_KEYS_FILE: needed for JWT_ALGORITHM={self.algorithm}")
        self._file = settings.jwt_keys_file
        self._stamp = _stamp(self._file)
        self._keys = read_key_file(self._file, self.algorithm)

    @property
    def keys(self) -> tuple[Key, ...]:
        """All keys that verify; the first one signs."""
        return self._keys

    def sign(self, claims: dict[str, Any]) -> str:
        """Return ``claims`` as a signed access token with the media type of RFC 9068."""
        key = self._keys[0]
        header = {"alg": self.algorithm, "typ": "at+jwt", "kid": key.kid}
        return jwt.encode(header, claims, key, algorithms=[self.algorithm])

    def public_jwks(self) -> dict[str, Any]:
        """Return the public halves as a JWK Set; empty under HS256, whose key is a secret."""
        if self.algorithm == "HS256":
            return {"keys": []}
        return {"keys": [key.as_dict(private=False, alg=self.algorithm, use="sig") for key in self._keys]}

    def reload(self) -> bool:
        """Read the key file again if it changed; return True if the keys are new.

        A file that cannot be used raises :class:`SettingsError` and leaves the present keys in force.
        """
        if self._file is None:
            return False
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return False
        self._keys = read_key_file(self._file, self.algorithm)
        self._stamp = stamp
        return True


def check_secret(secret: str, name: str) -> None:
    """Raise :class:`SettingsError` unless ``secret`` can key HS256; the message never shows it."""
    if len(secret.encode()) < MINIMUM_SECRET_BYTES:
        raise SettingsError(f"{name}: at least {MINIMUM_SECRET_BYTES} bytes are needed")
    if "-----BEGIN" in secret:
        # Whoever holds the public half of such a key could sign with it as a secret (RFC 8725, 2.1).
        raise SettingsError(f"{name}: a PEM key is not a secret for HS256; set JWT_ALGORITHM and JWT_KEYS_FILE")


def _secret_keys(settings: Settings) -> tuple[Key, ...]:
    secrets_in_force = [settings.jwt_secret]
    if settings.jwt_secret_previous:
        check_secret(settings.jwt_secret_previous, "JWT_SECRET_PREVIOUS")
        secrets_in_force.append(settings.jwt_secret_previous)
    return tuple(OctKey.import_key(secret, {"kid": _secret_name(secret)}) for secret in secrets_in_force)


def _secret_name(secret: str) -> str:
    """Return a name that tells two secrets apart and reveals nothing about either."""
    return hmac.new(secret.encode(), b"llm-observatory key id", hashlib.sha256).hexdigest()[:12]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise SettingsError(f"JWT_KEYS_FILE: cannot be read ({error.strerror})") from error
    return status.st_mtime_ns, status.st_ino


def read_key_file(path: Path, algorithm: str) -> tuple[Key, ...]:
    """Return the private keys of the JWK Set at ``path``. Raises :class:`SettingsError`."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["keys"]
        if any(entry["kty"] != KEY_TYPES[algorithm] or is_short_rsa(entry) for entry in entries):
            raise SettingsError(
                f"JWT_KEYS_FILE: {algorithm} takes {KEY_TYPES[algorithm]} keys, RSA of 2048 bits or more"
            )
        keys = tuple(JWKRegistry.import_key(entry) for entry in entries)
    except OSError as error:
        raise SettingsError(f"JWT_KEYS_FILE: cannot be read ({error.strerror})") from error
    except (JoseError, ValueError, TypeError, KeyError) as error:
        # The parser's own message might quote the file.
        raise SettingsError("JWT_KEYS_FILE: is not a JWK Set of private keys") from error
    if not 1 <= len(keys) <= MAX_KEYS:
        raise SettingsError(f"JWT_KEYS_FILE: 1 to {MAX_KEYS} keys are needed")
    for key in keys:
        if not key.is_private or not key.kid:
            raise SettingsError("JWT_KEYS_FILE: each key must be a private one with a kid")
    if len({key.kid for key in keys}) != len(keys):
        raise SettingsError("JWT_KEYS_FILE: two keys have the same kid")
    return keys


def rotate_key_file(path: Path, algorithm: str, *, keep: int = 1) -> str:
    """Put a fresh signing key first in the JWK Set at ``path``, keeping ``keep`` older ones for verification.

    Creates the file (mode 0600) if it does not exist, and replaces it in one step. Returns the new kid.
    """
    older = read_key_file(path, algorithm)[:keep] if path.exists() else ()
    kid = secrets.token_hex(6)
    parameters: KeyParameters = {"kid": kid, "alg": algorithm, "use": "sig"}
    fresh: Key
    match KEY_TYPES[algorithm]:
        case "RSA":
            fresh = RSAKey.generate_key(RSA_BITS, parameters)
        case "EC":
            fresh = ECKey.generate_key("P-256" if algorithm == "ES256" else "P-384", parameters)
        case "OKP":
            fresh = OKPKey.generate_key("Ed25519", parameters)
        case _:
            raise ValueError(f"{algorithm} has no key file")
    _write_privately(path, json.dumps({"keys": [key.as_dict(private=True) for key in (fresh, *older)]}, indent=1))
    return kid


def embedded_secret(data_dir: Path) -> str:
    """Return the secret of an installation that runs its own stores: made once, kept in ``data_dir`` with mode 0600."""
    path = data_dir / "jwt_secret"
    if not path.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        _write_privately(path, secrets.token_hex(MINIMUM_SECRET_BYTES), overwrite=False)
    return path.read_text(encoding="ascii").strip()


def _write_privately(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write through a temporary file, so that no reader sees half of it and two writers do not mix."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if overwrite:
            os.replace(name, path)
        else:
            try:
                os.link(name, path)
            except FileExistsError:
                pass  # another process was first: its secret is used
    finally:
        Path(name).unlink(missing_ok=True)
