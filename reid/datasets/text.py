"""Lists and tables that people made, read so that what is wrong with them is told with its line."""

import csv
import io
from pathlib import Path
from typing import Any

from reid.datasets.split import DatasetError

NUMBER = r"\d{1,18}"  # a whole number that int64 holds


def is_number(text: str) -> bool:
    """Whether it is a whole number that int64 holds, in digits and nothing else."""
    return text.isdecimal() and len(text) <= 18


def read_text(path: Path) -> str:
    """A text file in UTF-8, with or without a byte order mark.

    Raises:
        DatasetError: When it is not UTF-8, with the line.
    """
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        wrong = data[error.start]
        raise DatasetError(f"{path}:{line}: not UTF-8 text: byte 0x{wrong:02x}; save the file as UTF-8") from None


def read_table(path: Path) -> tuple[list[str], list[tuple[int, dict[str, Any]]]]:
    """The columns of a CSV file, and its rows with their line numbers, as ``csv.DictReader`` has them.

    Raises:
        DatasetError: When it is no table or not UTF-8, with the line.
    """
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""))
    try:
        return list(reader.fieldnames or ()), [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise DatasetError(f"{path}:{reader.reader.line_num}: not a table: {error}") from error
