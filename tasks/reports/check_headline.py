"""What the check of a file says first: what a run would send, that nothing was sent, and what was not looked at."""

from __future__ import annotations

from collections.abc import Mapping

from tasks.models import RowCounts
from tasks.reason_texts import explain_file
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import Headline
from tasks.reports.report_data import CheckFacts

#: How the headline of a run counts a reason for skipping a row, if not by the reason itself.
_COUNTED_AS = {"in_another_batch": "onboarded_before"}


def check_headline(check: CheckFacts, counts: RowCounts, skipped: Mapping[str, int], texts: Texts) -> Headline:
    """Return how a file stands; `skipped` are the rows that a run would skip, by reason."""
    if counts.records == counts.open:
        head = texts("checked_all", count=counts.open)
    else:
        head = texts("checked_some", count=counts.open, records=counts.records)
    by_word: dict[str, int] = {}
    for code, count in skipped.items():
        word = _COUNTED_AS.get(code, code)
        by_word[word] = by_word.get(word, 0) + count
    ordered = sorted(by_word.items(), key=lambda each: (-each[1], each[0]))  # as `Queries.count_skipped` orders them
    parts = [texts(f"verdict_{word}", count=count) for word, count in ordered]
    if counts.invalid:
        parts.append(texts("verdict_need", count=counts.invalid))
    more = [texts("checked_at", time=texts.time(check.at)), *remarks(check, texts)]
    return Headline("check", texts("verdict_between").join([head, *parts]), texts("sentence_between").join(more))


def remarks(check: CheckFacts, texts: Texts) -> list[str]:
    """Return a sentence for whatever else must be known of a check.

    That a run would refuse the file as a whole, and what could not be looked at, with the checks that were not made.
    """
    found = []
    if check.refused:
        found.append(texts("checked_refused", why=explain_file(check.refused, texts.lang)[0]))
    if check.not_asked:
        why = texts(f"not_asked_{check.not_asked}", code=check.code)
        found.append(texts("sentence_between").join([why, texts("methods_not_checked")]))
    if check.not_compared:
        found.append(texts(f"not_compared_{check.not_compared}"))
    if check.same_as:
        found.append(texts("checked_known", batch=str(check.same_as)))
    return found
