"""The command ``label``: predicts very many photographs on workers, into Parquet tables.

The workers are actors of Ray; ``docs/scale.md`` compares them with Ray Data.
"""

import sys
from collections.abc import Sequence

from kpdetect.core.options import parse_options, run_command
from kpdetect.inference.bulk.options import LabelOptions, check_options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``label``.

    Args:
        argv: The words after ``label``; None takes those of the process.

    Returns:
        The exit status: 2 if a part failed or every photograph is bad, otherwise 0.

    Raises:
        KpdetectError: An option or a place is wrong, or several parts failed in a row.
        MissingExtra: A package of the extra ``label`` is not installed.

    Example:
        >>> main(["photos", "--out", "labels", "--workers", "4"])  # doctest: +SKIP
        0
    """
    examples = (
        "python -m kpdetect.label photos --out labels --workers 4\n"
        "  python -m kpdetect.label 'crawl/*.parquet' --column jpg --name-column url --out labels --workers 4"
    )
    options = parse_options(LabelOptions, argv, "label", examples)
    check_options(options)
    from kpdetect.inference.bulk.run import label  # here, since they import the packages of the extra
    from kpdetect.inference.bulk.workers import started

    return label(options, started)


if __name__ == "__main__":
    sys.exit(run_command(main))
