"""Rows grouped by what one action would fix: where they stand, and what was rejected."""

from __future__ import annotations

from tasks.models import Reason, ReportRow
from tasks.reports.aggregates import Task, TaskKey, Tasks
from tasks.reports.i18n import Texts


def invalid(line: int, *reasons: Reason, method: str = "paypay") -> ReportRow:
    """A row that cannot be sent; its record stands on one line of a file without blank lines."""
    return ReportRow(line - 1, line, "invalid", "", method, "", "", False, "", "", "", 0, reasons)


def grouped(*rows: ReportRow) -> list[Task]:
    """The groups of some rows."""
    tasks = Tasks()
    for row in rows:
        tasks.add(row, row.reasons)
    return list(tasks.found.values())


def at(*lines: int) -> Task:
    """The group of rows with the same fault in these lines."""
    (task,) = grouped(*(invalid(line, Reason("missing_value", "customer_id")) for line in lines))
    return task


def test_rows_with_one_cause_are_one_group_whatever_their_values() -> None:
    values = ["a b", "c d", "a b", "e f", "g h"]
    rows = [invalid(line, Reason("blank_inside", "reference", value)) for line, value in enumerate(values, 2)]
    (task,) = grouped(*rows, method_row := invalid(9, Reason("blank_inside", "reference", "i j"), method="paidy"))
    assert method_row.line == task.ranges[-1][1]
    assert task.key == TaskKey("invalid", "blank_inside", "reference")
    assert (task.rows, task.alone) == (6, 6)
    assert task.values == ["a b", "c d", "e f"]
    assert task.methods == {"paypay": 5, "paidy": 1}


def test_a_row_with_two_causes_is_in_two_groups_and_with_one_cause_twice_in_one() -> None:
    one, two = Reason("missing_value", "customer_id"), Reason("missing_value", "resource")
    found = {task.key.column: (task.rows, task.alone) for task in grouped(invalid(2, one, two), invalid(3, two, two))}
    assert found == {"customer_id": (1, 0), "resource": (2, 1)}


def test_lines_that_follow_each_other_are_said_as_one() -> None:
    english, japanese = Texts("en", "UTC"), Texts("ja", "UTC")
    assert english.lines(at(12)) == "Line 12."
    assert english.lines(at(12, 13)) == "Lines 12–13."
    assert english.lines(at(12, 15, 16, 17, 18, 20)) == "Lines 12, 15–18, 20."
    some = at(12, *range(15, 19), *range(20, 612, 2))
    assert english.lines(some) == "Lines 12, 15–18, 20, 22, 24 and 293 more."
    assert japanese.lines(some) == "該当行：12、15～18、20、22、24、ほか 293 件。"


def test_any_number_of_lines_is_a_few_numbers() -> None:
    task = at(*range(2, 10_000), *range(10_002, 100_000, 2))
    assert len(task.ranges) == len(task.lines) == 5
    assert task.ranges[0] == (2, 9_999)
    assert task.lines == [2, 3, 4, 5, 6]
    assert task.lines_in_ranges == 9_998 + 4
