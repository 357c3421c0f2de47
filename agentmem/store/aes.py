"""Sealing with AES-256-GCM.

Every file has a key of its own, derived with HKDF-SHA256 from the master key and what the file is: its sort, and its
block key, or agent id and turn number, or namespace folder. So a file that was moved to another's place does not open,
and a key only ever seals the versions of one file. Nonces are 96 random bits, drawn for each version: NIST SP 800-38D
allows 2^32 of them under one key (a repeat is then less likely than 2^-32), so one and the same block or record would
have to be written four thousand million times. Stores that share a master key share no file keys either: what the
files are called is random (agents, namespace folders) or a hash keyed with a random secret (blocks).

The authenticated data is what the file is once more, and all of its container, so that no byte of a file can change.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from agentmem.errors import Reason
from agentmem.store.keys import SECRET_BYTES
from agentmem.store.layout import RawTensor, header_end, pack, unpack
from agentmem.store.masterkey import KEY_BYTES
from agentmem.store.sealing import NONCE_BYTES, SEALED_SECRET_BYTES, TAG_BYTES, KeyCheck, SealBroken, Spool
from agentmem.store.spool import SealedSpool

BLOCK_FORMAT = "1-sealed"
SEALED = "sealed"

_RECORD = re.compile(rb'\{"nonce":"([0-9a-f]{24})","sealed":"([A-Za-z0-9+/]*={0,2})"\}')


class Aes:
    """The sealer of an encrypted store (`sealing.Sealer`)."""

    seal_bytes = TAG_BYTES

    def __init__(self, key: bytes) -> None:
        """key: the master key, 32 random bytes."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key of {len(key)} bytes")
        self._key = key
        self._root = HKDF(SHA256(), KEY_BYTES, salt=None, info=b"agentmem.files.1").derive(key)

    def block(self, key: bytes, data: bytes) -> bytes:
        """A safetensors file with one tensor, `sealed`: the plain block's file encrypted, and the tag."""
        name, nonce = _name(b"block", key), _nonce()
        # The header holds the size of what is sealed only, so it is known before, and can be authenticated.
        header, _ = _container(key, nonce, np.empty(len(data) + TAG_BYTES, np.uint8))
        return header + self._encrypt(name, nonce, data, header)

    def open_block(self, key: bytes, data: bytes) -> bytes:
        try:
            tensors, metadata = unpack(data)
        except ValueError as error:
            raise SealBroken(str(error) if type(error) is ValueError else type(error).__name__) from None
        if metadata.keys() != {"format", "key", "nonce"} or tensors.keys() != {SEALED}:
            raise SealBroken("not a sealed block")
        if metadata["format"] != BLOCK_FORMAT:
            raise SealBroken(f"unknown format {metadata['format'][:20]}")
        try:
            nonce = bytes.fromhex(metadata["nonce"])
        except ValueError:
            raise SealBroken("not a nonce") from None
        end = header_end(data)
        return self._decrypt(_name(b"block", key), nonce, memoryview(data)[end:], data[:end])

    def record(self, agent_id: str, number: int, data: bytes) -> bytes:
        """A JSON object with a nonce, and what is sealed in base64."""
        nonce = _nonce()
        return _as_json(nonce, self._encrypt(_record_name(agent_id, number), nonce, data))

    def open_record(self, agent_id: str, number: int, data: bytes) -> bytes:
        match = _RECORD.fullmatch(data)
        if match is None:
            raise SealBroken("not a sealed record")
        try:
            nonce, sealed = bytes.fromhex(match[1].decode()), base64.b64decode(match[2], validate=True)
        except binascii.Error:
            raise SealBroken("not base64") from None
        if _as_json(nonce, sealed) != data:  # base64 has several spellings for some ends
            raise SealBroken("not spelled as it was written")
        return self._decrypt(_record_name(agent_id, number), nonce, sealed)

    def secret(self, folder: str, secret: bytes) -> bytes:
        """A nonce, and the secret sealed."""
        nonce = _nonce()
        return nonce + self._encrypt(_secret_name(folder), nonce, secret)

    def open_secret(self, folder: str, data: bytes) -> bytes:
        return self._decrypt(_secret_name(folder), data[:NONCE_BYTES], data[NONCE_BYTES:])

    def spool(self, folder: Path) -> Spool:
        return SealedSpool(folder)

    def key_check(self) -> KeyCheck:
        salt = secrets.token_bytes(16)
        return KeyCheck(salt, self._check(salt))

    def misfit(self, known: KeyCheck | None) -> Reason | None:
        if known is None:
            return Reason.STORE_NOT_ENCRYPTED
        is_ours = hmac.compare_digest(known.check, self._check(known.salt))
        return None if is_ours else Reason.ENCRYPTION_KEY_WRONG

    def misfit_of_secrets(self, secrets: Mapping[str, bytes]) -> Reason | None:
        if any(len(data) == SECRET_BYTES for data in secrets.values()):
            return Reason.STORE_NOT_ENCRYPTED
        sealed = {folder: data for folder, data in secrets.items() if len(data) == SEALED_SECRET_BYTES}
        opens = any(self._opens(folder, data) for folder, data in sealed.items())
        return Reason.ENCRYPTION_KEY_WRONG if sealed and not opens else None

    def _opens(self, folder: str, data: bytes) -> bool:
        try:
            self.open_secret(folder, data)
        except SealBroken:
            return False
        return True

    def _check(self, salt: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt, b"agentmem.check.1").derive(self._key)

    def _encrypt(self, name: bytes, nonce: bytes, data: bytes, container: bytes = b"") -> bytes:
        return self._cipher(name).encrypt(nonce, data, name + container)

    def _decrypt(self, name: bytes, nonce: bytes, data: bytes | memoryview, container: bytes = b"") -> bytes:
        if len(nonce) != NONCE_BYTES:
            raise SealBroken("not a nonce")
        try:
            return self._cipher(name).decrypt(nonce, data, name + container)
        except InvalidTag:
            raise SealBroken("not what was sealed here, or sealed with another key") from None

    def _cipher(self, name: bytes) -> AESGCM:
        return AESGCM(HKDFExpand(SHA256(), KEY_BYTES, name).derive(self._root))


def _nonce() -> bytes:
    return secrets.token_bytes(NONCE_BYTES)


def _name(*fields: bytes) -> bytes:
    """What a file is. Each field is preceded by its length, so no two lists of fields collide."""
    return b"".join(len(field).to_bytes(8, "little") + field for field in fields)


def _record_name(agent_id: str, number: int) -> bytes:
    return _name(b"record", agent_id.encode(), str(number).encode())


def _secret_name(folder: str) -> bytes:
    return _name(b"secret", folder.encode())


def _container(key: bytes, nonce: bytes, sealed: np.ndarray) -> tuple[bytes, list[memoryview]]:
    metadata = {"format": BLOCK_FORMAT, "key": key.hex(), "nonce": nonce.hex()}
    return pack({SEALED: RawTensor("U8", sealed.shape, sealed)}, metadata)


def _as_json(nonce: bytes, sealed: bytes) -> bytes:
    text = {"nonce": nonce.hex(), "sealed": base64.b64encode(sealed).decode()}
    return json.dumps(text, separators=(",", ":")).encode()
