"""Masks that nobody draws: run-length codes made to break whoever trusts them."""


def coco_counts(runs: list[int]) -> str:
    """Return COCO's compressed code of any runs: ``rleToString`` of cocoapi, ``common/maskApi.c``."""
    text = []
    for position, run in enumerate(runs):
        rest = run - runs[position - 2] if position > 2 else run
        more = True
        while more:
            digit = rest & 31
            rest >>= 5
            more = rest != -1 if digit & 16 else rest != 0
            text.append(chr(48 + digit + (32 if more else 0)))
    return "".join(text)


def wrapping_runs(size_px: int) -> list[int]:
    """Return runs of 0 or more whose sum in 64 bits is the size of a mask; truly it is 2^64 more.

    Args:
        size_px: At least 8,192. No step between two runs of a colour needs more than 40 bits, which is what
            a code of eight digits holds.
    """
    count = 8192
    steps = count * (count + 1) // 2
    step = 2**64 // steps
    offset = -(-(2**64 - step * steps) // count)
    rising = [offset + step * position for position in range(1, count + 1)]
    runs = [size_px - (sum(rising) - 2**64)]
    for run in rising:
        runs += [run, 0]
    return runs
