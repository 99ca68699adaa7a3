"""Blanks and invisible characters, by their Unicode properties.

Python's `unicodedata` has neither White_Space nor Default_Ignorable_Code_Point; both follow from the categories and a
few exceptions that Unicode lists in PropList.txt.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

#: White_Space that is a control character; all other White_Space has a category of separators.
_CONTROL_BLANKS = "\t\n\x0b\x0c\r\x85"
_ASCII_BLANKS = " \t\n\x0b\x0c\r"
#: No blank by its property, but none of its eight dots is shown.
_BRAILLE_BLANK = "\u2800"
#: Default_Ignorable besides the format characters: Other_Default_Ignorable_Code_Point and Variation_Selector. The last
#: range but one holds what stands for a character that was lost, too.
_IGNORABLE = (
    *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x3164, 0x3164)),
    *((0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFFD), (0xE0000, 0xE0FFF)),
)
_FIRST_OF_ARABIC_NONCHARACTERS, _LAST_OF_THEM = 0xFDD0, 0xFDEF


@lru_cache(maxsize=4096)
def is_blank(char: str) -> bool:
    """Return whether a character is White_Space."""
    return char in _CONTROL_BLANKS or char == _BRAILLE_BLANK or unicodedata.category(char)[0] == "Z"


@lru_cache(maxsize=4096)
def is_invisible(char: str) -> bool:
    """Return whether a character is a format character, Default_Ignorable, or none at all."""
    code = ord(char)
    if unicodedata.category(char) == "Cf" or any(begin <= code <= end for begin, end in _IGNORABLE):
        return True
    return code & 0xFFFE == 0xFFFE or _FIRST_OF_ARABIC_NONCHARACTERS <= code <= _LAST_OF_THEM


@lru_cache(maxsize=4096)
def is_control(char: str) -> bool:
    """Return whether a character is a control character."""
    return unicodedata.category(char) == "Cc"


def is_trimmed(char: str) -> bool:
    """Return whether a character is left off at the edges of a key."""
    return is_blank(char) or is_invisible(char)


def trim(value: str) -> str:
    """Return a value without the blanks and invisible characters at its edges."""
    if value.isascii():
        return value.strip(_ASCII_BLANKS)
    begin, end = 0, len(value)
    while begin < end and is_trimmed(value[begin]):
        begin += 1
    while begin < end and is_trimmed(value[end - 1]):
        end -= 1
    return value[begin:end]
