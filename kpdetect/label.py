"""Owns the command that labels photographs by the million: Parquet tables of faces, written by many workers.

The engine is Ray (2.60), and of Ray its actors. A pool of processes of the standard library starts sooner (Ray takes
five seconds) and does as much a second (0.74 and 0.51 photographs of AFW with Ray, 0.70 and 0.70 with the pool, two
runs in turns with two workers on two cores that were busy with other work), but it ends at one machine and breaks
down as a whole when one process dies. Ray Data spreads over a cluster, yet the rows it would carry are numbers of
parts alone, for the workers write the tables, whole or not at all; it does not tell which row killed a worker, and
one such row ends everything. Actors do the same on a laptop and on a cluster, and tell. Beam and Spark (not tried)
want a runner, or a Java machine beside Python.
"""

import sys
from collections.abc import Sequence

from kpdetect.core.options import parse_options, run_command
from kpdetect.inference.bulk.options import LabelOptions, check_options


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command ``label``; ends with 2 where parts are missing or not one photograph could be marked."""
    examples = (
        "python -m kpdetect.label photos --out labels --workers 4\n"
        "  python -m kpdetect.label 'crawl/*.parquet' --column jpg --name-column url --out labels --workers 4"
    )
    options = parse_options(LabelOptions, argv, "label", examples)
    check_options(options)
    from kpdetect.inference.bulk.run import label  # here, since they need the packages that were just looked for
    from kpdetect.inference.bulk.workers import started

    return label(options, started)


if __name__ == "__main__":
    sys.exit(run_command(main))
