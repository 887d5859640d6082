"""SM4 against the example of GB/T 32907-2016 and against OpenSSL; the data area of a frame behind a key, as HJ 212-2025
6.4.2 and annex A.2 have it: whole blocks only, the CRC that of the clear frame."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.hj212_frame import FrameReader, RawFrame, build_frame, crc_hj212
from collectors.hj212_sm4 import Cipher, _crypt, cipher_of, encrypted, opened, round_keys
from park.errors import FrameError, InputError

KEY = bytes.fromhex("0123456789abcdeffedcba9876543210")
ANNEX_KEY = b"0" * 16  # A.2: "sixteen 0x30"
HEAD = b"QN=20240601085857223;ST=32;CN=2011;PW=123456;MN=010000A8900016F000169DC0;Flag=9;CP=&&"
AREA = b"DataTime=20240601085857;w01018-Rtd=1.1,w01018-Flag=N;w21003-Rtd=3.2,w21003-Flag=N"  # 81 bytes: five blocks and one
CLEAR = HEAD + AREA + b"&&"


def _openssl(text: bytes, key: bytes) -> bytes:
    done = subprocess.run(["openssl", "enc", "-sm4-ecb", "-nopad", "-K", key.hex()], input=text,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_example_of_the_standard() -> None:
    """Annex A.1: key and plain text the same, and the first and last round key."""
    keys = round_keys(KEY)
    assert (keys[0], keys[31]) == (0xF12186F9, 0x9124A012)
    assert Cipher(keys).encrypt(KEY).hex() == "681edf34d206965e86b3e94f536e4246"


def test_the_example_again_and_again_as_in_the_standards_second_vector_in_short() -> None:
    """Annex A.2 repeats the encryption; many rounds there and back come home."""
    cipher, block = Cipher(round_keys(KEY)), KEY
    for _ in range(200):
        block = cipher.encrypt(block)
    for _ in range(200):
        block = _crypt(block, cipher.keys[::-1])
    assert block == KEY


def test_openssl_gives_the_same() -> None:
    text = bytes(range(32, 112)) * 4
    assert Cipher(round_keys(KEY)).encrypt(text) == _openssl(text, KEY)


def test_a_frame_is_encrypted_as_the_annex_says() -> None:
    """Whole blocks by OpenSSL, what is left over in clear, as long as the clear frame, and with its CRC."""
    assert len(AREA) % 16 == 1
    hand_made = (b"##%04d" % len(CLEAR) + HEAD + _openssl(AREA[:-1], ANNEX_KEY) + AREA[-1:] + b"&&"
                 + b"%04X\r\n" % crc_hj212(CLEAR))
    cipher = Cipher(round_keys(ANNEX_KEY))
    assert build_frame(CLEAR, on_line=encrypted(CLEAR, cipher)) == hand_made
    (frame,) = FrameReader().feed(hand_made)
    assert frame.crc is None, "the CRC cannot be judged before the area is opened"
    assert opened(frame, cipher) == RawFrame(CLEAR, "hj212", frame.crc_text)


@pytest.mark.parametrize("form", ["raw", "braces", "hex", "base64"])
def test_an_area_comes_back_in_every_form(form: str) -> None:
    cipher = cipher_of({"sm4_form": form}, KEY.hex())
    assert cipher is not None
    (frame,) = FrameReader().feed(build_frame(CLEAR, on_line=encrypted(CLEAR, cipher)))
    assert b"w01018" not in frame.data and b"MN=0100" in frame.data
    if form == "braces":
        assert frame.data.endswith(b"}N&&") and b"CP=&&{0x" in frame.data, "as the annex prints it"
    clear = opened(frame, cipher)
    assert clear is not None and (clear.data, clear.crc) == (CLEAR, "hj212")


@pytest.mark.parametrize("kind", ["hj212", "modbus", "modbus_swapped"])
def test_the_crc_of_the_clear_frame_may_be_of_any_kind(kind: str) -> None:
    cipher = Cipher(round_keys(KEY))
    (frame,) = FrameReader().feed(build_frame(CLEAR, kind, on_line=encrypted(CLEAR, cipher)))
    clear = opened(frame, cipher)
    assert clear is not None and clear.fits(kind)


@pytest.mark.parametrize("fill", [b" ", b"\0", bytes([15]) * 15])
def test_senders_that_fill_up_the_last_block_or_take_the_crc_of_the_line_are_understood(fill: bytes) -> None:
    cipher = Cipher(round_keys(KEY))
    full = AREA + (fill if len(fill) == 15 else fill * (-len(AREA) % 16))
    on_line = HEAD + cipher.encrypt(full) + b"&&"
    for crc in (crc_hj212(CLEAR), crc_hj212(on_line)):
        (frame,) = FrameReader().feed(b"##%04d" % len(on_line) + on_line + b"%04X\r\n" % crc)
        clear = opened(frame, cipher)
        assert clear is not None and clear.crc == "hj212" and clear.data == CLEAR


def test_a_clear_area_stays_clear_and_a_wrong_key_is_told() -> None:
    cipher = Cipher(round_keys(KEY))
    for data in (CLEAR, HEAD + b"&&", HEAD + b"SystemTime=1&&"):
        (frame,) = FrameReader().feed(build_frame(data))
        assert opened(frame, cipher) is None
    (frame,) = FrameReader().feed(build_frame(CLEAR, on_line=encrypted(CLEAR, Cipher(round_keys(bytes(16))))))
    with pytest.raises(FrameError, match="does not give a text"):
        opened(frame, cipher)
    with pytest.raises(FrameError, match="a block of 16 bytes"):
        opened(RawFrame(b"MN=M1;CP=&&\x01\x02\x03&&", None), cipher)
    with pytest.raises(InputError, match="32 hex digits"):
        cipher_of({}, "abc")
    with pytest.raises(InputError, match="raw, braces, hex, base64"):
        cipher_of({"sm4_form": "xml"}, KEY.hex())


@given(st.text(alphabet="abcDataTime0123456789=;,-.校准", min_size=0, max_size=200).map(lambda t: "x1-Rtd=1;" + t))
def test_what_goes_in_comes_out(area: str) -> None:
    cipher, data = Cipher(round_keys(KEY)), HEAD + area.encode() + b"&&"
    (frame,) = FrameReader().feed(build_frame(data, on_line=encrypted(data, cipher)))
    clear = opened(frame, cipher)
    assert (clear.data if clear else frame.data) == data


@given(st.binary(max_size=200), st.sampled_from(["raw", "braces", "hex", "base64"]))
def test_no_area_ends_in_anything_but_text_or_a_frame_error(area: bytes, form: str) -> None:
    try:
        opened(RawFrame(b"MN=M1;CP=&&" + area + b"&&", None, b"ABCD"), Cipher(round_keys(KEY), form))
    except FrameError:
        pass
