"""SM4 against the example of GB/T 32907-2016 and against OpenSSL, and the data area of a frame behind a key."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.hj212_sm4 import Cipher, cipher_of, decrypt_frame, encrypt_frame, round_keys
from park.errors import FrameError, InputError

KEY = bytes.fromhex("0123456789abcdeffedcba9876543210")
DATA = b"QN=20261123110000123;ST=31;CN=2011;PW=123456;MN=M1;Flag=9;CP=&&DataTime=20261123110000;a21026-Rtd=12.5,a21026-Flag=N&&"


def test_the_example_of_the_standard() -> None:
    """Annex A.1: key and plain text the same, and the first and last round key."""
    keys = round_keys(KEY)
    assert (keys[0], keys[31]) == (0xF12186F9, 0x9124A012)
    assert Cipher(keys).encrypt(KEY).hex() == "681edf34d206965e86b3e94f536e4246"


def test_the_example_again_and_again_as_in_the_standards_second_vector_in_short() -> None:
    """Annex A.2 repeats the encryption; a thousand rounds there and back come home."""
    cipher, block = Cipher(round_keys(KEY)), KEY
    for _ in range(200):
        block = cipher.encrypt(block)
    from collectors.hj212_sm4 import _crypt
    for _ in range(200):
        block = _crypt(block, cipher.keys[::-1])
    assert block == KEY


def test_openssl_gives_the_same() -> None:
    text = bytes(range(32, 112)) * 4
    done = subprocess.run(["openssl", "enc", "-sm4-ecb", "-nopad", "-K", KEY.hex()], input=text,
                          capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Cipher(round_keys(KEY)).encrypt(text) == done.stdout


@pytest.mark.parametrize("form", ["raw", "hex", "base64"])
def test_an_area_comes_back_in_every_form(form: str) -> None:
    cipher = cipher_of({"sm4_form": form}, KEY.hex())
    assert cipher is not None
    sent = encrypt_frame(DATA, cipher)
    assert b"a21026" not in sent and b"MN=M1" in sent
    assert decrypt_frame(sent, cipher) == (DATA, True)


def test_a_clear_area_stays_clear_and_a_wrong_key_is_told() -> None:
    cipher = Cipher(round_keys(KEY))
    assert decrypt_frame(DATA, cipher) == (DATA, False)
    assert decrypt_frame(b"CN=9015;CP=&&&&", cipher) == (b"CN=9015;CP=&&&&", False)
    with pytest.raises(FrameError, match="does not give a text"):
        decrypt_frame(encrypt_frame(DATA, Cipher(round_keys(bytes(16)))), cipher)
    with pytest.raises(FrameError, match="whole blocks"):
        decrypt_frame(b"MN=M1;CP=&&\x01\x02\x03&&", cipher)
    with pytest.raises(InputError, match="32 hex digits"):
        cipher_of({}, "abc")


@given(st.binary(max_size=200))
def test_no_area_ends_in_anything_but_text_or_a_frame_error(area: bytes) -> None:
    try:
        decrypt_frame(b"MN=M1;CP=&&" + area + b"&&", Cipher(round_keys(KEY), "base64"))
    except FrameError:
        pass
