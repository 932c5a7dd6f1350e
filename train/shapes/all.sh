#!/bin/sh
# The whole shapes bundle from nothing, each recipe once; a stopped run goes on where it was when this is run again.
# The shipped weights took 16.3 hours on the cores that their card names (pretrained_adapters/shapes): tokenizer 0.5,
# image 1.9, keyframes 7.1, interpolation 5.4, superres 1.3; text takes seconds.
exec cogstyle train "$(dirname "$0")" --runs runs "$@"
