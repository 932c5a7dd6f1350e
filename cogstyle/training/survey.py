"""What somebody's footage is: how many clips, how long and how large, with which captions."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from cogstyle.config import require
from cogstyle.data.manifest import Manifest
from cogstyle.errors import CogstyleError
from cogstyle.video import open_video

LOOKED_AT = 200  # files, spread over all


@dataclass(frozen=True)
class Survey:
    """Figures of footage; those of files are of the ones that were looked at."""

    entries: int
    captions: tuple[str, ...]  # each once
    left_out: tuple[str, ...]  # lines and files that cannot be used, each with the reason
    seconds: tuple[float, ...]  # of each video, ascending; 0 for a picture
    sides: tuple[int, ...]  # pixels along the shorter side of each, ascending
    rate: float  # frames a second, the median of the videos; 0 without videos
    languages: tuple[str, ...]
    uncaptioned: int = 0  # lines without any text
    taken: str = ""  # where videos and captions were found

    @property
    def videos(self) -> bool:
        """Whether there are any, not pictures alone."""
        return self.seconds[-1] > 0

    @property
    def lengths(self) -> tuple[float, ...]:
        """Seconds of each video, ascending; none of pictures."""
        return tuple(length for length in self.seconds if length > 0)

    def lines(self, size: int) -> list[str]:
        """For people who want frames of `size` px."""
        said, small = ", ".join(self.languages), sum(side < size for side in self.sides)
        found = [
            f"footage          {self.entries:,} videos and pictures; {len(self.left_out):,} of them cannot be used",
            f"captions         {len(self.captions):,}" + f" ({said})" * bool(said),
            f"shorter side     {self.sides[0]} to {self.sides[-1]} px, median {median(self.sides):g}",
        ]
        found += [f"read from        {self.taken}"] if self.taken else []
        found += [f"too small        {small} of {len(self.sides)}: a frame has {size} px"] if small else []
        if self.videos:
            span = f"{self.lengths[0]:.1f} to {self.lengths[-1]:.1f} s, median {median(self.lengths):.1f}"
            found.append(f"length           {span}; {self.rate:g} frames a second")
        if self.uncaptioned:
            found.append(f"no caption       {self.uncaptioned}; --caption TEXT gives all of them one")
        return found + [f"left out         {reason}" for reason in self.left_out[:3]]


def survey(manifest: Manifest) -> Survey:
    """Look at the lines of a manifest, and at some of its files.

    Raises:
        ConfigError: if none can be used.
    """
    good = [entry for entry in manifest.entries if not entry.problem]
    bad = [f"{entry.where}: {entry.problem}" for entry in manifest.entries if entry.problem]
    require(bool(good), f"none of the {len(bad)} lines of {manifest.folder} can be used; the first: {(bad or [''])[0]}")
    seconds, sides, rates = [], [], []
    for entry in good[:: -(-len(good) // LOOKED_AT)]:
        try:
            length, side, rate = look_at(manifest.folder / entry.video)
        except (CogstyleError, OSError) as error:
            bad.append(str(error))
            continue
        seconds.append(min(length, entry.end or length) - entry.start if length else 0.0)
        sides.append(side)
        rates += [rate] if length else []
    require(bool(sides), f"none of the videos of {manifest.folder} can be read; the first: {(bad or [''])[-1]}")
    texts = [text for entry in good for text in entry.texts]
    return Survey(
        entries=len(manifest.entries),
        taken=manifest.taken,
        uncaptioned=sum(bool(entry.problem and entry.video) and not entry.caption for entry in manifest.entries),
        captions=tuple(dict.fromkeys(caption for _, caption in texts)),
        left_out=tuple(bad),
        seconds=tuple(sorted(seconds)),
        sides=tuple(sorted(sides)),
        rate=round(median(rates), 2) if rates else 0.0,
        languages=tuple(language for language, _ in Counter(name for name, _ in texts if name).most_common(9)),
    )


def look_at(path: Path) -> tuple[float, int, float]:
    """Seconds (0 for a picture), pixels along the shorter side and frames a second of a file.

    Raises:
        MediaError: if it cannot be read.
    """
    with open_video(path) as video:
        still = video.last <= 0
        return (
            0.0 if still else video.duration,
            round(min(video.sides)),
            0.0 if still else video.rate or 0.0,
        )
