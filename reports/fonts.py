"""A font that can write Chinese: the machine's Noto or WenQuanYi first, else the file inside a package that we depend on."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

FOLDERS = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path("~/.fonts"),
    Path("~/.local/share/fonts"),
    Path("/System/Library/Fonts"),
    Path("/Library/Fonts"),
)
PREFERRED = (
    "NotoSansCJK-Regular",
    "NotoSansCJKsc-Regular",
    "NotoSansSC",
    "SourceHanSansSC-Regular",
    "SourceHanSansCN-Regular",
    "wqy-microhei",
    "wqy-zenhei",
)
FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "Noto Sans CJK TC",
    "Noto Sans CJK JP",
)
SERIF_FAMILIES = ("Noto Serif CJK SC", "Source Han Serif SC", "SimSun", *FAMILIES)


def packaged() -> Path:
    """The font file of the package `cvttf-notosanscjk-regular`."""
    import cvttf_NotoSansCJK_Regular as package

    return next(Path(package.__file__).parent.glob("*.[ot]t[fc]"))


def find_font(folders: Iterable[Path] = FOLDERS) -> Path:
    """The file of a CJK font: the first of `PREFERRED` found in `folders`, else the packaged one."""
    found = {
        p.stem: p
        for folder in folders
        if folder.expanduser().is_dir()
        for p in folder.expanduser().rglob("*.[ot]t[fc]")
        if p.stem.startswith(PREFERRED)
    }
    for name in PREFERRED:
        for stem, path in sorted(found.items()):
            if stem.startswith(name):
                return path
    return packaged()


@lru_cache(maxsize=1)
def chart_family() -> str:
    """Tell matplotlib of the font and give the family to draw with."""
    from matplotlib import font_manager

    before = {f.name for f in font_manager.fontManager.ttflist}
    font_manager.fontManager.addfont(str(find_font()))
    names = {f.name for f in font_manager.fontManager.ttflist}
    return next((f for f in FAMILIES if f in names), next(iter(sorted(names - before)), "DejaVu Sans"))
