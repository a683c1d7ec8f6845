"""Owns which photographs of 300-W's training part are copies of one another, so that a split keeps them together.

LFPW was gathered from the web, where one publicity picture stands in many places: re-encoded, cropped, lettered. Found
by correlating the 2,009 faces as grey crops of 32 pixels: pairs above 0.85 within LFPW, or of neighbouring Flickr
numbers, are one photograph or one sitting. A few may only look alike; that they stay together costs nothing.
"""

_LFPW_TRAIN = """
3 52|11 44|35 53|38 244 777|43 317|121 122|134 155|154 176|163 192|164 187|188 190|204 682 704|251 252|279 313 321
342 343 366|344 351|345 384|349 392|374 376|407 454|413 415 445 458|419 449|420 436|435 439|482 494 503|491 516
502 518|544 548 583|573 592 598|601 617 622 623 631 633 635 639 647 648 651 658|680 698 724|683 695 712 730|685 719
686 727|691 692|708 710|733 743|809 825 847|816 824 856 858
"""
_FLICKR = "13601258 13601448|1420413841 1425648903|2139767101 2140556694|2209809995 2210601282"


def _first_of(groups: str, form: str) -> dict[str, str]:
    split = [group.split() for line in groups.strip().splitlines() for group in line.split("|")]
    return {form.format(int(other)): form.format(int(first)) for first, *others in split for other in others}


COPY_OF = _first_of(_LFPW_TRAIN, "trainset/image_{:04d}") | _first_of(_FLICKR, "{}")
"""A photograph, as `kpdetect.data.readers.ibug.photograph_of` calls it, to the first of those that are one with it."""
