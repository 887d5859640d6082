"""SM4 in ECB mode for the data area of HJ 212-2025, behind a key of the device and never because of Flag alone.

The block cipher is that of GB/T 32907-2016: 32 rounds on four words of 32 bits. All blocks of a data area go through the
rounds together as columns of numpy, which costs about the same for one block as for a hundred.

HJ 212-2025, 6.4.2 and annex A.2: what stands between `CP=&&` and `&&` is encrypted in groups of 16 characters without
padding, what is left over stays clear, and the CRC is that of the clear frame, computed before. So an encrypted frame is as
long as a clear one, and its CRC can only be checked after decryption. (The annex prints the bytes as `{0xE4,0x3E,...}` but
with the length of the clear frame; that form is read as well.) `sm4_form` says what a device does otherwise.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collectors.hj212_frame import RawFrame, first_kind
from park.errors import FrameError, InputError

Words = NDArray[np.uint32]
BLOCK = 16
FORMS = ("raw", "braces", "hex", "base64")

# GB/T 32907-2016, 6.2: the S-box by rows of 32
_SBOX = bytes.fromhex(
    "d690e9fecce13db716b614c228fb2c052b679a762abe04c3aa44132649860699"
    "9c4250f491ef987a33540b43edcfac62e4b31ca9c908e89580df94fa758f3fa6"
    "4707a7fcf37317ba83593c19e6854fa8686b81b27164da8bf8eb0f4b70569d35"
    "1e240e5e6358d1a225227c3b01217887d40046579fd327524c3602e7a0c4c89e"
    "eabf8ad240c738b5a3f7f2cef96115a1e0ae5da49b341a55ad933230f58cb1e3"
    "1df6e22e8266ca60c02923ab0d534e6fd5db3745defd8e2f03ff6a726d6c5b51"
    "8d1baf92bbddbc7f11d95c411f105ad80ac13188a5cd7bbd2d74d012b8e5b4b0"
    "8969974a0c96777e65b9f109c56ec68418f07dec3adc4d2079ee5f3ed7cb3948")
# 7.3: system parameter FK and fixed parameter CK
_FK = (0xA3B1BAC6, 0x56AA3350, 0x677D9197, 0xB27022DC)
_CK = tuple(sum(((4 * i + j) * 7 % 256) << (24 - 8 * j) for j in range(4)) for i in range(32))


def _rotated(word: int, n: int) -> int:
    return (word << n | word >> (32 - n)) & 0xFFFFFFFF


def _substituted(word: int) -> int:
    return int.from_bytes(bytes(_SBOX[b] for b in word.to_bytes(4, "big")), "big")


def _mixed(word: int) -> int:
    """The linear transformation L of the rounds."""
    return word ^ _rotated(word, 2) ^ _rotated(word, 10) ^ _rotated(word, 18) ^ _rotated(word, 24)


# S-box and L in one look-up for each byte's place in the word
_TABLES = tuple(np.array([_mixed(_SBOX[b] << shift) for b in range(256)], np.uint32) for shift in (24, 16, 8, 0))


def round_keys(key: bytes) -> tuple[int, ...]:
    """The 32 round keys of a key of 16 bytes."""
    k = [int.from_bytes(key[4 * i:4 * i + 4], "big") ^ fk for i, fk in enumerate(_FK)]
    for ck in _CK:
        t = _substituted(k[-3] ^ k[-2] ^ k[-1] ^ ck)
        k.append(k[-4] ^ t ^ _rotated(t, 13) ^ _rotated(t, 23))
    return tuple(k[4:])


def _crypt(data: bytes, keys: tuple[int, ...]) -> bytes:
    """Whole blocks through the rounds; the keys backwards decrypt."""
    words: Words = np.frombuffer(data, ">u4").astype(np.uint32).reshape(-1, 4)
    x0, x1, x2, x3 = words[:, 0], words[:, 1], words[:, 2], words[:, 3]
    for key in keys:
        t = x1 ^ x2 ^ x3 ^ np.uint32(key)
        x0, x1, x2, x3 = x1, x2, x3, (x0 ^ _TABLES[0][t >> 24] ^ _TABLES[1][t >> 16 & 255]
                                      ^ _TABLES[2][t >> 8 & 255] ^ _TABLES[3][t & 255])
    return np.stack([x3, x2, x1, x0], axis=1).astype(">u4").tobytes()


@dataclass(frozen=True)
class Cipher:
    """SM4-ECB with one key; `form` is how the bytes stand on the line."""

    keys: tuple[int, ...]
    form: str = "raw"

    def encrypt(self, text: bytes) -> bytes:
        """The area on the line: whole blocks encrypted, the rest of less than 16 bytes in clear."""
        whole = len(text) - len(text) % BLOCK
        secret, rest = _crypt(text[:whole], self.keys) if whole else b"", text[whole:]
        if self.form == "hex":
            return (secret + rest).hex().upper().encode()
        if self.form == "base64":
            return base64.b64encode(secret + rest)
        if self.form == "braces" and secret:
            return b"{" + ",".join(f"0x{b:02X}" for b in secret).encode() + b"}" + rest
        return secret + rest

    def decrypt(self, area: bytes) -> bytes:
        """The text of an area, with whatever its sender filled it up with; FrameError `cipher` when it is no text."""
        data = _bytes_of(area, self.form)
        whole = len(data) - len(data) % BLOCK
        if not whole:
            raise FrameError("cipher", f"expected a block of {BLOCK} bytes at least, got {len(data)} bytes")
        text = _crypt(data[:whole], self.keys[::-1]) + data[whole:]
        if b"=" not in text or any(b < 32 for b in _unfilled(text)):
            raise FrameError("cipher", "the key does not give a text with this data area")
        return text


def _bytes_of(area: bytes, form: str) -> bytes:
    try:
        if area.startswith(b"{0"):
            listed, _, rest = area[1:].partition(b"}")
            return bytes(int(b, 16) for b in listed.split(b",")) + rest
        if form == "hex":
            return bytes.fromhex(area.decode("ascii"))
        return base64.b64decode(area, validate=True) if form == "base64" else area
    except (binascii.Error, ValueError) as exc:
        raise FrameError("cipher", f"expected an encrypted area in form {form}: {exc}") from exc


def _unfilled(text: bytes) -> bytes:
    """Without what some senders fill the last block up with, against the standard: PKCS#7, zeros or blanks."""
    n = text[-1] if text else 0
    if 0 < n <= BLOCK and text.endswith(bytes([n]) * n):
        return text[:-n]
    return text.rstrip(b" \0\r\n")


def cipher_of(attributes: Mapping[str, Any], key: str | None) -> Cipher | None:
    """The cipher of a device's attributes `sm4_key` (32 hex digits, given with its environment variable filled in) and
    `sm4_form`; None without a key."""
    if key is None:
        return None
    form = str(attributes.get("sm4_form", "raw"))
    if form not in FORMS:
        raise InputError(f"expected sm4_form {', '.join(FORMS)}, got {form!r}")
    try:
        raw = bytes.fromhex(key)
    except ValueError:
        raw = b""
    if len(raw) != BLOCK:
        raise InputError("expected sm4_key as 32 hex digits")
    return Cipher(round_keys(raw), form)


def area_of(data: bytes) -> tuple[int, int] | None:
    """Where the data area stands: behind `CP=&&` and before the last `&&`."""
    start, end = data.find(b"CP=&&") + 5, data.rfind(b"&&")
    return (start, end) if 5 <= start <= end else None


def opened(frame: RawFrame, cipher: Cipher) -> RawFrame | None:
    """The frame with its area in clear and the kind of CRC that fits it; None when the area is text already (a heartbeat, a
    station that does not encrypt). FrameError `cipher` when it is neither. The CRC is that of the clear text; senders that
    compute it over what stands on the line are understood too."""
    place = area_of(frame.data)
    if place is None:
        return None
    start, end = place
    area = frame.data[start:end]
    is_text = not area.strip() or is_clear(area)
    if is_text and (frame.crc or len(area) < BLOCK):
        return None
    try:
        text = cipher.decrypt(area)
    except FrameError:
        if is_text:
            return None
        raise
    whole = [frame.data[:start] + t + frame.data[end:] for t in dict.fromkeys((text, _unfilled(text)))]
    for data in whole:
        if (kind := first_kind(data, frame.crc_text)) is not None:
            return RawFrame(data, kind, frame.crc_text)
    return None if is_text else RawFrame(whole[-1], frame.crc, frame.crc_text)


def encrypted(data: bytes, cipher: Cipher) -> bytes:
    """A frame's data with its area encrypted; what is shorter than a block stays clear."""
    place = area_of(data)
    if place is None:
        return data
    return data[:place[0]] + cipher.encrypt(data[place[0]:place[1]]) + data[place[1]:]


def is_clear(area: bytes) -> bool:
    """Plain fields: names and values with `=`; base64 ends in `=` but has none with something behind it."""
    head = area.split(b";", 1)[0].split(b",", 1)[0]
    name, eq, value = head.partition(b"=")
    return bool(eq and name and value.strip(b"=") and all(32 < b < 127 for b in name) and (
        all(b >= 32 for b in area)))
