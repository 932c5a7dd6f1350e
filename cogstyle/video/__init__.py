"""Frames <-> files: videos read by time, as a viewer sees them, and written whole or not at all."""

from cogstyle.video.frames import enlarge, psnr, square
from cogstyle.video.reading import PictureReader, VideoReader, open_video, read_image, read_last_frames
from cogstyle.video.writing import SUFFIXES, Video, check_output

__all__ = [
    "SUFFIXES",
    "PictureReader",
    "Video",
    "VideoReader",
    "check_output",
    "enlarge",
    "open_video",
    "psnr",
    "read_image",
    "read_last_frames",
    "square",
]
