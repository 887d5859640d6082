"""E-mail over SMTP: `smtp://user@host:587/?from=a@b&to=c@d,e@f`, password in the route's secret.

smtps:// speaks TLS from the start; smtp:// goes on to TLS where the server offers it, and a password is never sent without.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from urllib.parse import parse_qs, unquote, urlsplit

from alerts.posting import LONGEST_S, TIMEOUT_S, NotDelivered, cut_after
from park.errors import InputError


@dataclass(frozen=True)
class Target:
    """Where a mail goes, taken from a route's address."""

    secure: bool
    host: str
    port: int
    user: str
    sender: str
    to: tuple[str, ...]


def target_of(address: str) -> Target:
    """The parts of an address; InputError says what it lacks."""
    parts = urlsplit(address)
    query = parse_qs(parts.query)
    to = tuple(x.strip() for x in ",".join(query.get("to", [])).split(",") if x.strip())
    sender = query.get("from", [""])[0]
    people = bool(to) and all("@" in x for x in (sender, *to))
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or not people:
        raise InputError("expected smtp://user@host:587/?from=a@b&to=c@d,e@f (smtps:// for TLS from the start)")
    secure = parts.scheme == "smtps"
    return Target(secure, parts.hostname, parts.port or (465 if secure else 25), unquote(parts.username or ""), sender, to)


def send(address: str, secret: str, title: str, lines: Sequence[str]) -> None:
    """Send one mail to all; NotDelivered when the server refuses it or a recipient."""
    try:
        t = target_of(address)
        message = _message(t, title, lines)
        wires: list[socket.socket] = []
        with cut_after(LONGEST_S, lambda: wires[-1] if wires else None), _connection(t, wires) as smtp:
            if not t.secure and smtp.has_extn("starttls"):
                smtp.starttls(context=ssl.create_default_context())
                wires += [smtp.sock] if smtp.sock is not None else []
                smtp.ehlo()
                encrypted = True
            else:
                encrypted = t.secure
            if t.user:
                if not encrypted:
                    raise NotDelivered("the server offers no TLS; a password is not sent without")
                smtp.login(t.user, secret)
            refused = smtp.send_message(message)
    except InputError as exc:
        raise NotDelivered(str(exc)) from exc
    except (smtplib.SMTPException, OSError, ValueError) as exc:
        raise NotDelivered(f"{type(exc).__name__}: {_reason(exc)}") from exc
    if refused:
        raise NotDelivered(f"{len(refused)} of {len(t.to)} recipients refused")


def _connection(t: Target, wires: list[socket.socket]) -> smtplib.SMTP:
    """A session with the server; its socket is put into `wires` before the first word is waited for."""
    class Plain(smtplib.SMTP):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            wires.append(super()._get_socket(host, port, timeout))  # type: ignore[misc]
            return wires[-1]

    class Secure(smtplib.SMTP_SSL):
        def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
            wires.append(super()._get_socket(host, port, timeout))  # type: ignore[misc]
            return wires[-1]
    if t.secure:
        return Secure(t.host, t.port, timeout=TIMEOUT_S, context=ssl.create_default_context())
    smtp = Plain(t.host, t.port, timeout=TIMEOUT_S)
    smtp.ehlo()
    return smtp


def _message(t: Target, title: str, lines: Sequence[str]) -> EmailMessage:
    message = EmailMessage()
    message["Subject"] = title
    message["From"], message["To"] = t.sender, ", ".join(t.to)
    message["Date"], message["Message-ID"] = formatdate(), make_msgid(domain=t.sender.rsplit("@", 1)[1])
    message.set_content("\n".join([title, "", *lines, ""]))
    return message


def _reason(exc: Exception) -> str:
    if isinstance(exc, smtplib.SMTPResponseException):
        error = exc.smtp_error
        return f"{exc.smtp_code} {error.decode(errors='replace') if isinstance(error, bytes) else error}"
    return str(exc)
