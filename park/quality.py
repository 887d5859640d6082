"""Quality: one word that travels from the instrument's flag to the report's footnote.

Stored as a small integer. Codes below 10 have a value that may enter a mean or a total; codes from 10 on
say why there is no usable value. A missing value is NULL with one of these words, never 0.0.
"""

from __future__ import annotations

from enum import IntEnum


class Quality(IntEnum):
    """Code and word of a reading's quality; the words are the wire format and the `quality` table."""

    GOOD = 0
    MANUAL = 1          # entered by a person with evidence (HJ 212 flag S)
    ESTIMATED = 2       # computed, e.g. the split of a gap whose total is exact
    SUBSTITUTED = 3     # replaced upward by rule (HJ 75); counts for mass only
    UNCERTAIN = 4       # outside the point's plausible range, or the clock is not trusted
    STOPPED = 10        # the source is stopped (flag F): excluded, not missing
    MAINTENANCE = 11    # flag M
    CALIBRATION = 12    # flag C
    FAULT = 13          # flag D
    OVER_RANGE = 14     # flag T
    LINK_FAULT = 15     # flag B
    MISSING = 16        # the device sent no value
    BAD = 17            # not a number, or physically impossible


LAST_USABLE = Quality.UNCERTAIN
VALID = (Quality.GOOD, Quality.MANUAL)  # what counts as `n_good` in rollups and as a valid minute (HJ 76-2017 Annex B)

WORDS: dict[str, Quality] = {q.name.lower(): q for q in Quality}


def word_of(code: int) -> str:
    """The word of a stored code; an unknown code reads as `bad` rather than failing a page."""
    try:
        return Quality(code).name.lower()
    except ValueError:
        return Quality.BAD.name.lower()
