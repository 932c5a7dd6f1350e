#!/bin/sh
# The whole shapes bundle from nothing, each recipe once; a stopped run goes on where it was when this is run again.
# About 17 hours one after the other (estimated); text takes minutes. Keyframes and interpolation do not need each other:
# run at the same time, a core each, that is 12.
exec cogstyle train "$(dirname "$0")" --runs runs "$@"
