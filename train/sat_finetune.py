"""Fine-tune a SAT checkpoint folder on token shards: `python train/sat_finetune.py BUNDLE --load FOLDER ...`."""

import sys

from cogstyle.training.sat_host import finetune_on_shards

finetune_on_shards(sys.argv[1], sys.argv[2:])
