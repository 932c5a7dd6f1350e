"""Frames <-> files: videos read by time, as a viewer sees them, and written whole or not at all."""

from cogstyle.video.frames import enlarge, psnr, square
from cogstyle.video.reading import VIDEOS, PictureReader, VideoReader, open_video, read_image, read_last_frames
from cogstyle.video.writing import SUFFIXES, Video, check_output, check_place

__all__ = [
    "SUFFIXES",
    "VIDEOS",
    "PictureReader",
    "Video",
    "VideoReader",
    "check_output",
    "check_place",
    "enlarge",
    "open_video",
    "psnr",
    "read_image",
    "read_last_frames",
    "square",
]
