"""The sheet Summary of `report.xlsx`: headline, reconciliation, what to do, what goes on by itself, the run."""

from __future__ import annotations

from collections.abc import Sequence

from tasks import stop_texts
from tasks.reports.aggregates import Aggregates
from tasks.reports.contents import ReportContents
from tasks.reports.i18n import Texts
from tasks.reports.recommendations import Recommendations, by_kind
from tasks.reports.report_data import FileWarning
from tasks.reports.run_facts import authorisation, by_itself, run_facts, state_counts, warnings_in_words, what_became
from tasks.reports.text_sheet import TextSheet
from tasks.reports.xlsx_tables import LINE_POINTS, Styles, lines_of

_WIDTHS = (40, 10, 62, 48, 32)
_MOST_OF_NAME = 80  # of the file


def of_report(contents: ReportContents) -> tuple[str, str]:
    """Return which file and batch these are, and when they stood as it is said here."""
    batch, texts = contents.facts.batch, contents.texts
    name = batch.name if len(batch.name) <= _MOST_OF_NAME else f"{batch.name[:_MOST_OF_NAME]}…"
    which = name if contents.facts.check else f"{name} · {texts('batch')} {batch.id}"
    return which, texts("counted", name=texts("written"), count=texts.time(contents.written_at))


class SummarySheet:
    """Writes the sheet from top to bottom."""

    def __init__(self, sheet: TextSheet, styles: Styles, texts: Texts) -> None:
        self._summary, self._styles, self._texts = sheet, styles, texts

    def write(self, contents: ReportContents) -> None:
        """Write all of it."""
        sheet, texts, styles = self._summary, self._texts, self._styles
        lines = lines_of(contents.verdict.text, round(sum(_WIDTHS) / 1.7))
        self._write_across(contents.verdict.text, styles.verdict, lines * 1.6 * LINE_POINTS)
        why = stop_texts.sentence(contents.facts.batch.stop, texts.lang)
        self._write_across(" ".join(filter(None, (contents.verdict.more, why))), styles.wrapped)
        self._write_across(" · ".join(of_report(contents)), styles.wrapped)
        sheet.skip_row()
        self._write_books(contents.aggregates)
        self._write_advice(contents.advice)
        self._write_sentences("goes_on_by_itself", by_itself(contents))
        self._write_sentences("what_became", what_became(contents))
        self._write_sentences("authorisation", authorisation(contents))
        sheet.add_texts([texts("the_run")], styles.section)
        for label, value in run_facts(contents):
            sheet.add_texts([label, value], styles.text)
        self._write_warnings(contents.facts.warnings)
        sheet.finish(_WIDTHS, styles.text_format, table=False)

    def _write_across(self, text: str, style: int, height: float = 0) -> None:
        """Write a text over the whole width of the summary."""
        lines = lines_of(text, sum(_WIDTHS))
        self._summary.add_text_across(text, style, len(_WIDTHS), height or lines * LINE_POINTS)

    def _write_sentences(self, head: str, sentences: Sequence[str]) -> None:
        if sentences:
            self._summary.add_texts([self._texts(head)], self._styles.section)
            for sentence in sentences:
                self._write_across(sentence.replace("`", ""), self._styles.wrapped)
            self._summary.skip_row()

    def _write_books(self, aggregates: Aggregates) -> None:
        sheet, texts, styles = self._summary, self._texts, self._styles
        sheet.add_texts([texts("books")], styles.section)
        for _, name, count in state_counts(aggregates, texts):
            share = texts.share(count, aggregates.counts.records)
            sheet.add_texts([name, texts.number(count), share], (styles.text, styles.right, styles.indented))
        total = [texts("records"), texts.number(aggregates.counts.records), texts("balanced")]
        sheet.add_texts(total, (styles.strong, styles.right, styles.indented))
        sheet.skip_row()

    def _write_advice(self, advice: list[Recommendations]) -> None:
        if not advice:
            return
        sheet, texts, styles = self._summary, self._texts, self._styles
        sheet.add_texts([texts("what_to_do")], styles.section)
        self._write_list(
            ("column_reason", "column_rows", "column_to_do", "column_command", "column_lines"),
            [
                [
                    texts("kind_and_title", kind=texts(f"kind_{kind}"), title=each.title),
                    *(texts.number(each.task.rows), each.action, each.command, texts.lines(each.task)),
                ]
                for kind, of_kind in by_kind(advice)
                for each in of_kind
            ],
        )

    def _write_warnings(self, warnings: Sequence[FileWarning]) -> None:
        if not warnings:
            return
        self._summary.skip_row()
        self._summary.add_texts([self._texts("warnings")], self._styles.section)
        self._write_list(
            ("column_reason", "column_rows", "column_message", "column_to_do", "column_first_line"),
            warnings_in_words(warnings, self._texts),
        )

    def _write_list(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write lines of a table whose second column is a number of rows."""
        sheet, styles = self._summary, self._styles
        layout = (styles.wrapped, styles.right, *[styles.wrapped_indented] * (len(heads) - 2))
        sheet.add_texts(
            [self._texts(key) for key in heads],
            (styles.strong, styles.strong_right, *[styles.strong_indented] * (len(heads) - 2)),
        )
        for row in rows:
            lines = max(map(lines_of, row, _WIDTHS))
            sheet.add_texts(row, layout, lines * LINE_POINTS)
        sheet.skip_row()
