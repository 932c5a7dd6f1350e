"""Which matrix the colours of a video are in, for reading and for writing."""

BT709, UNSAID, BT601 = 1, 2, 6  # numbers of colour matrices in H.264, Matroska and FFmpeg
ACCURATE = 0x2 | 0x2000 | 0x40000  # libswscale: bilinear, a colour for every pixel, rounded and not cut off


def matrix(width: int, height: int) -> int:
    """The matrix of a file that names none: BT.709 for more than television had, BT.601 else, as mpv has it."""
    return BT709 if width >= 1280 or height > 576 else BT601
