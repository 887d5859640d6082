"""Group robots: messages in the form that DingTalk, WeCom and Feishu take, signed where a secret is set.

DingTalk  sign = base64(HMAC-SHA256(secret, "MS\\nsecret")), with timestamp (ms) in the address; answers {"errcode": 0}
Feishu    sign = base64(HMAC-SHA256("S\\nsecret", "")), with timestamp (s) in the body; answers {"code": 0}
WeCom     not signed, its address is the key; markdown of at most 4096 bytes; answers {"errcode": 0}
All three answer 200 to a message that they refuse; only the code in the answer says so.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from alerts.posting import NotDelivered, post

WECOM_BYTES = 4096
ROBOT_BYTES = 18_000    # DingTalk and Feishu take 20,000


def dingtalk(target: str, secret: str, title: str, lines: Sequence[str]) -> None:
    """Send markdown to a DingTalk robot; NotDelivered when it is not taken."""
    if secret:
        stamp = str(int(time.time() * 1000))
        mark = "&" if "?" in target else "?"
        target += mark + urlencode({"timestamp": stamp, "sign": dingtalk_sign(secret, stamp)})
    text = fitting(f"### {title}", [f"- {line}" for line in lines], ROBOT_BYTES)
    _post(target, {"msgtype": "markdown", "markdown": {"title": title, "text": text}}, ("errcode",))


def dingtalk_sign(secret: str, stamp: str) -> str:
    """What DingTalk compares with its own."""
    return _base64(hmac.new(secret.encode(), f"{stamp}\n{secret}".encode(), hashlib.sha256).digest())


def wecom(target: str, secret: str, title: str, lines: Sequence[str]) -> None:
    """Send markdown to a WeCom robot; it has no secret but its address."""
    text = fitting(f"**{title}**", [f"> {line}" for line in lines], WECOM_BYTES)
    _post(target, {"msgtype": "markdown", "markdown": {"content": text}}, ("errcode",))


def feishu(target: str, secret: str, title: str, lines: Sequence[str]) -> None:
    """Send text to a Feishu (Lark) robot."""
    body: dict[str, Any] = {"msg_type": "text", "content": {"text": fitting(title, lines, ROBOT_BYTES)}}
    if secret:
        stamp = str(int(time.time()))
        body = {"timestamp": stamp, "sign": feishu_sign(secret, stamp)} | body
    _post(target, body, ("code", "StatusCode"))


def feishu_sign(secret: str, stamp: str) -> str:
    """What Feishu compares with its own: the text is the key, and nothing is what is signed."""
    return _base64(hmac.new(f"{stamp}\n{secret}".encode(), b"", hashlib.sha256).digest())


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def fitting(title: str, lines: Sequence[str], most: int) -> str:
    """Title and lines within so many bytes of UTF-8; lines that do not fit are counted."""
    kept: list[str] = []
    left = most - len(title.encode()) - 16
    for i, line in enumerate(lines):
        left -= len(line.encode()) + 1
        if left < 0:
            kept.append(f"… (+{len(lines) - i})")
            break
        kept.append(line)
    return "\n".join([title, *kept])


def _post(target: str, body: Mapping[str, Any], codes: Sequence[str]) -> None:
    """POST JSON; the errors never name the address, which is a key."""
    data = json.dumps(body, ensure_ascii=False).encode()
    try:
        told = json.loads(post(target, data, {"Content-Type": "application/json; charset=utf-8"}))
    except (ValueError, RecursionError) as exc:
        raise NotDelivered(f"{type(exc).__name__}: no JSON in the answer") from exc
    code = next((told[c] for c in codes if isinstance(told, dict) and c in told), None)
    if code != 0:
        reason = str(told.get("errmsg") or told.get("msg") or told)[:200] if isinstance(told, dict) else "no code"
        raise NotDelivered(f"refused with code {code}: {reason}")
