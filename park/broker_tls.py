"""TLS of MQTT: what a client trusts and shows (`mqtts://…?ca=FILE`), and the certificate that the embedded broker shows."""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl

from park.errors import SetupError

SCHEMES = ("mqtts", "ssl")
FILES = ("ca", "cert", "key")     # of the query of an mqtts URL: whom the client trusts; what it shows itself
_NO_CHECK_TIME = 0x200000         # OpenSSL's X509_V_FLAG_NO_CHECK_TIME: an expired certificate has an end to tell, too


def files_of(parts: SplitResult) -> dict[str, str]:
    """The files that an MQTT URL names; ValueError says what was expected instead."""
    found = dict(parse_qsl(parts.query, keep_blank_values=True))
    if strange := set(found) - set(FILES):
        raise ValueError(f"expected after ? only {', '.join(FILES)}, each with a file, not {sorted(strange)[0]}")
    if found and parts.scheme not in SCHEMES:
        raise ValueError("expected mqtts:// where ca, cert or key are named: mqtt:// is not encrypted")
    if "key" in found and "cert" not in found:
        raise ValueError("expected cert=FILE beside key=FILE")
    for name, file in found.items():
        if not Path(file).is_file():
            raise ValueError(f"expected {name}=FILE, and there is no file {file}")
    return found


def client_context(parts: SplitResult) -> ssl.SSLContext:
    """What a client of this URL trusts: `ca`, otherwise the machine's authorities. OSError when a file holds none."""
    files = files_of(parts)
    context = ssl.create_default_context(cafile=files.get("ca"))
    if "cert" in files:
        context.load_cert_chain(files["cert"], files.get("key"))
    return context


def why(exc: OSError) -> str:
    """Why a broker cannot be reached, in one line, with the remedy where its certificate is the reason."""
    if isinstance(exc, ssl.SSLCertVerificationError):
        return (f"its certificate is not trusted: {exc.verify_message}; PARK_MQTT_URL=mqtts://user:password@host:port?ca=FILE "
                "names the authority, and the host must be one of the certificate's names")
    return exc.strerror or str(exc)


@dataclass(frozen=True)
class Certificate:
    """What the embedded broker shows: file of the certificate (chain), file of its key, names, end."""

    file: Path
    key: Path
    names: tuple[str, ...]
    ends: datetime


def read_certificate(file: Path, key: Path) -> Certificate:
    """The certificate, read as a client would see it; SetupError when the two files are no such pair."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for needed in (file, key):
        try:
            needed.read_bytes()
        except OSError as exc:
            raise SetupError(f"{needed} cannot be read: {exc.strerror}") from exc
    try:
        server.load_cert_chain(file, key, password="")      # an encrypted key would ask at the terminal
        client.load_verify_locations(file)
        client.check_hostname = False
        client.verify_flags = ssl.VerifyFlags(_NO_CHECK_TIME) | ssl.VERIFY_X509_PARTIAL_CHAIN
        shown = _handshake(server, client)
    except ssl.SSLError as exc:
        raise SetupError(f"{file} and {key}: expected a certificate and its key without a passphrase, both PEM; "
                         f"{exc.reason or exc}") from exc
    names = tuple(value for kind, value in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address"))
    ends = datetime.fromtimestamp(ssl.cert_time_to_seconds(shown["notAfter"]), UTC)
    return Certificate(file.absolute(), key.absolute(), names, ends)


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """What the client sees of the server, in memory."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server)
    far = server.wrap_bio(to_server, to_client, server_side=True)
    for end in (near, far, near):       # hello; answer and certificate; checked
        with contextlib.suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return near.getpeercert() or {}
