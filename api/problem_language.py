"""The language of problem documents: one for title and detail, the request's where it has the sentence.

Sentences are raised in English where the mistake is found, by the database too; the table beside this has them in Chinese.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import yaml
from fastapi import Request

from api.answers import Language, language_of

TITLES: dict[Language, dict[int, str]] = {
    "en": {
        400: "Bad request", 401: "Token missing or not valid", 403: "Not allowed", 404: "Not found", 405: "Method not allowed",
        406: "No such form", 408: "Too slow", 409: "Conflict", 413: "Too large", 422: "Input not valid",
        429: "Too many requests", 500: "Internal error", 503: "Not available", 504: "Took too long"},
    "zh": {
        400: "请求有误", 401: "令牌缺失或无效", 403: "没有权限", 404: "未找到", 405: "不支持此方法", 406: "没有这种格式",
        408: "过慢", 409: "冲突", 413: "过大", 422: "输入无效", 429: "请求过多", 500: "内部错误", 503: "暂不可用", 504: "超时"}}
_FIELD = re.compile(r"(\w+): (.+)", re.DOTALL)
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")


@cache
def _sentences() -> list[tuple[re.Pattern[str], str]]:
    rows = yaml.safe_load(Path(__file__).with_name("problem_sentences.yaml").read_text(encoding="utf-8"))
    return [(re.compile(pattern, re.DOTALL), chinese) for pattern, chinese in rows]


def in_chinese(sentence: str) -> str | None:
    """The sentence in Chinese, with the name of a field before it as it came; None for one that the table lacks."""
    for pattern, chinese in _sentences():
        if match := pattern.fullmatch(sentence):
            said = chinese
            for number, group in enumerate(match.groups(""), start=1):
                said = said.replace(f"\\{number}", in_chinese(group) or group)
            return said
    field = _FIELD.fullmatch(sentence)
    rest = in_chinese(field[2]) if field else None
    return f"{field[1]}：{rest}" if field and rest else None


def asked_by(request: Request) -> Language:
    """The language of a request's texts: `?lang=`, Accept-Language, PARK_LANGUAGE."""
    lang = request.query_params.get("lang")
    return language_of(request, "zh" if lang == "zh" else "en" if lang == "en" else None)


def worded(request: Request | None, status: int, detail: str) -> tuple[str, str]:
    """(title, detail) in one language: the request's, or English where the detail is not known in Chinese."""
    language: Language = "en" if request is None else asked_by(request)
    if language == "zh":
        said = in_chinese(detail)
        if said is None and not _CHINESE.search(_QUOTED.sub("", detail)):
            language = "en"
        detail = said or detail
    return TITLES[language].get(status, "Error" if language == "en" else "出错"), detail
