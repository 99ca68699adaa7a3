"""When a file is refused as a whole because too many, or all, of its records are invalid."""

from __future__ import annotations

from tasks.errors import UnusableFile


def refusal(invalid: int, records: int, *, max_invalid_share: float, require_valid_row: bool) -> UnusableFile | None:
    """Return why a file is refused, or None; rows that are known in another spelling are not among the invalid."""
    if require_valid_row and invalid == records:
        return UnusableFile(
            "no_valid_record",
            "The only record is not valid." if records == 1 else f"None of the {records:,} records is valid.",
            hint="`onboard check FILE` lists the reasons; correct them in the system that the file comes from.",
        )
    if invalid > max_invalid_share * records:
        return UnusableFile(
            "too_many_invalid",
            f"{invalid:,} of {records:,} {'record is' if records == 1 else 'records are'} invalid,"
            f" more than {max_invalid_share:.0%}.",
            value=f"{invalid:,}/{records:,}",
            detail=f"{max_invalid_share:.0%}",
            hint="`onboard check FILE` lists the reasons; ONBOARD_MAX_INVALID_SHARE is the limit.",
        )
    return None
