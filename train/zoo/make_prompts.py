"""Write what a bundle of the zoo is evaluated on: python train/zoo/make_prompts.py --count 200 --out FILE.jsonl

A JSON object a line, three kinds: captions of unseen scenes (plain), the same scenes in Chinese, and scenes whose first
actor does what no training video shows it do. `scene` says for the judge what should be there.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cogstyle.errors import CogstyleError
from cogstyle.files import write_bytes

sys.path.insert(0, str(Path(__file__).parent))
from scenes import captions, draw_scene


def lines(count: int, first_seed: int) -> Iterator[dict[str, Any]]:
    """The prompts, kind by kind; a clip has the length of its action."""
    for kind, held_out, language in (("plain", False, 0), ("held-out pairs", True, 0), ("Chinese", False, 1)):
        for seed in range(first_seed, first_seed + count):
            scene = draw_scene(seed, held_out_pairs=held_out)
            said = captions(scene)
            yield {
                "prompt": said[language],
                "title": said[0],
                "kind": kind,
                "seed": seed,
                "seconds": scene.duration,
                "scene": asdict(scene),
            }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=200, help="prompts of each kind (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="file to write: .jsonl")
    parser.add_argument(
        "--first-seed", type=int, default=1_500_000, help="seed of the first scene (default: %(default)s)"
    )
    options = parser.parse_args()
    try:
        if options.count < 1 or options.first_seed < 0:
            raise ValueError("--count must be 1 or more, --first-seed 0 or more")
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines(options.count, options.first_seed))
        write_bytes(options.out, text.encode())
    except (ValueError, OSError, CogstyleError) as error:
        print(f"make_prompts: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
