"""Lines that stand below the customers of an export: totals, counts of rows, "end of report"."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from tasks.accept.blanks import trim

#: In folded text, without blanks and punctuation, which `_SIGNS` takes out.
_FOOTER = re.compile(
    r"(?:grand|sub)?totals?|sum|count|rowcount|(?:grand)?totals?(?:rows|records|count|customers)"
    r"|\d+(?:rows?|records?|lines?)(?:affected|selected|returned|exported|retrieved|inset)?"
    r"|(?:rows|records|lines|count|totals?|sum)\d+|end(?:of(?:file|report|data|list|export))?|eof"
    r"|(?:総|小)?合?計(?:金額|件数|行|数|額)?\d*[件行円名]?|件数\d*件?|全?\d+[件行]|以上|終了?"
)
_SIGNS = re.compile(r"[\W_]+")


def is_footer(fields: Sequence[str]) -> bool:
    """Return whether the first value of a record, one without method and resource, says that it is no customer."""
    first = next((value for value in fields if trim(value)), "")
    text = unicodedata.normalize("NFKC", first[:100]).casefold()
    return bool(_FOOTER.fullmatch(_SIGNS.sub("", text)))
