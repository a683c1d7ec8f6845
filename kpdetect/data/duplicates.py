"""Duplicate photographs in the training part of 300-W, which a split must keep together.

LFPW was collected from the web, where one press photograph appears in several places: compressed again, cropped or with
text. The groups below were found by correlating the 2,009 faces as grey crops of 32 pixels: pairs above 0.85 within
LFPW, or with neighbouring Flickr numbers, are one photograph or one sitting. A few pairs may only be similar; keeping
these together does no harm.
"""

_LFPW_TRAIN = """
3 52|11 44|35 53|38 244 777|43 317|121 122|134 155|154 176|163 192|164 187|188 190|204 682 704|251 252|279 313 321
342 343 366|344 351|345 384|349 392|374 376|407 454|413 415 445 458|419 449|420 436|435 439|482 494 503|491 516
502 518|544 548 583|573 592 598|601 617 622 623 631 633 635 639 647 648 651 658|680 698 724|683 695 712 730|685 719
686 727|691 692|708 710|733 743|809 825 847|816 824 856 858
"""
_FLICKR = "13601258 13601448|1420413841 1425648903|2139767101 2140556694|2209809995 2210601282"


def _first_by_duplicate(groups: str, name_format: str) -> dict[str, str]:
    """Maps the names of each group, but for the first, to the first."""
    split = [group.split() for line in groups.strip().splitlines() for group in line.split("|")]
    return {name_format.format(int(n)): name_format.format(int(first)) for first, *rest in split for n in rest}


DUPLICATE_OF = _first_by_duplicate(_LFPW_TRAIN, "trainset/image_{:04d}") | _first_by_duplicate(_FLICKR, "{}")
"""Maps a duplicate to the first photograph of its group, by the names of `kpdetect.data.readers.ibug.photograph_of`."""
