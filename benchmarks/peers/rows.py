"""What every peer sends for a row of the file, and where to."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from typing import Any

BASE_URL = os.environ["ELEPAY_BASE_URL"]
HEADERS = {"Authorization": f"Bearer {os.environ['ELEPAY_SECRET_KEY']}"}
TIMEOUT_SECONDS = 30


def read(path: str) -> list[dict[str, str]]:
    """Return the rows of the file."""
    with open(path, newline="", encoding="utf-8") as file:  # noqa: PTH123 - as people write it
        return list(csv.DictReader(file))


def address(row: Mapping[str, str]) -> str:
    """Return the URL of createSource for this row's customer."""
    return f"{BASE_URL}/customers/{row['customer_id']}/sources"


def body(row: Mapping[str, str]) -> dict[str, Any]:
    """Return the body of createSource; the reference is what the simulator counts by."""
    return {
        "paymentMethod": row["payment_method"],
        "resource": row["resource"],
        "description": row["description"],
        "metadata": {"plan": row["metadata.plan"], "onboarding_ref": row["customer_id"]},
    }
