"""`cogstyle train` for launchers: `torchrun --nproc-per-node 8 train/launch.py RECIPE [OPTIONS]`."""

import sys

from cogstyle.cli.main import main

# the deepspeed launcher adds its own option, and says the same in the environment
sys.exit(main(["train", *(option for option in sys.argv[1:] if not option.startswith("--local_rank"))]))
