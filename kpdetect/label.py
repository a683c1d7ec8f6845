"""The command ``label``: predicts very many photographs on workers, into Parquet tables.

The workers are actors of Ray. Measured with two workers on two busy cores, actors and a process pool of the standard
library labelled equally fast (0.51 to 0.74 and 0.70 photographs of AFW a second), and the pool starts five seconds
sooner; but it is limited to one machine and breaks as a whole if a process dies. Ray Data works on a cluster, but it
does not report which row killed a worker, and that row ends the run. Actors run on one machine and on a cluster, and
report which part failed.
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
