"""SM4 in ECB mode for the data area of HJ 212-2025, behind a key of the device and never because of Flag alone.

The block cipher is that of GB/T 32907-2016: 32 rounds on four words of 32 bits. All blocks of a data area go through the
rounds together as columns of numpy, which costs about the same for one block as for a hundred.
HJ 212-2025 encrypts what stands between `CP=&&` and the closing `&&`, without padding. Which text form the bytes take on the
line is a setting (`sm4_form` raw, hex or base64; not verified against the text of the standard).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from park.errors import FrameError, InputError

Words = NDArray[np.uint32]
BLOCK = 16
FORMS = ("raw", "hex", "base64")

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
        """The area on the line. A text that is no whole number of blocks is filled with blanks: there is no padding to
        take off, and blanks around CP mean nothing."""
        return _to_line(_crypt(text + b" " * (-len(text) % BLOCK), self.keys), self.form)

    def decrypt(self, area: bytes) -> bytes:
        """The text of an area; FrameError `cipher` when it is no whole number of blocks, or no text with this key."""
        try:
            data = _FROM_LINE[self.form](area)
        except (binascii.Error, ValueError) as exc:
            raise FrameError("cipher", f"expected an encrypted area in form {self.form}: {exc}") from exc
        if not data or len(data) % BLOCK:
            raise FrameError("cipher", f"expected whole blocks of {BLOCK} bytes, got {len(data)} bytes")
        text = _crypt(data, self.keys[::-1]).rstrip(b" \0\r\n")
        if b"=" not in text or any(b < 32 for b in text):
            raise FrameError("cipher", "the key does not give a text with this data area")
        return text


_FROM_LINE: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes, "hex": lambda a: bytes.fromhex(a.decode("ascii")), "base64": lambda a: base64.b64decode(a, validate=True)}


def _to_line(data: bytes, form: str) -> bytes:
    if form == "hex":
        return data.hex().upper().encode()
    return base64.b64encode(data) if form == "base64" else data


def cipher_of(attributes: dict[str, Any], key: str | None) -> Cipher | None:
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


def decrypt_frame(data: bytes, cipher: Cipher) -> tuple[bytes, bool]:
    """A frame's data with its area in clear, and whether it was encrypted. An area that is text already (a heartbeat, a
    station that does not encrypt) stays as it is; FrameError `cipher` when it is neither."""
    place = area_of(data)
    if place is None:
        return data, False
    start, end = place
    area = data[start:end]
    if not area.strip() or _is_text(area):
        return data, False
    return data[:start] + cipher.decrypt(area) + data[end:], True


def encrypt_frame(data: bytes, cipher: Cipher) -> bytes:
    """A frame's data with its area encrypted; an empty area stays empty."""
    place = area_of(data)
    if place is None or place[0] == place[1]:
        return data
    return data[:place[0]] + cipher.encrypt(data[place[0]:place[1]]) + data[place[1]:]


def _is_text(area: bytes) -> bool:
    """Plain fields: names and values with `=`; base64 ends in `=` but has none with something behind it."""
    head = area.split(b";", 1)[0].split(b",", 1)[0]
    name, eq, value = head.partition(b"=")
    return bool(eq and name and value.strip(b"=") and all(32 < b < 127 for b in name) and (
        all(b >= 32 for b in area)))
