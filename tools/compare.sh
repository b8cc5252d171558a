#!/bin/sh
# Train FOMM, face-vid2vid and our model at 128 px on the same pairs (docs/comparison.md). Given again, it continues.
# Usage: tools/compare.sh DATA OUT STEPS [SEED]
set -eu
[ $# -ge 3 ] || { echo "usage: $0 DATA OUT STEPS [SEED]" >&2; exit 2; }
data=$1 out=$2 steps=$3 seed=${4:-0}

train() { # COMMAND CONFIG NAME
  if [ -f "$out/$3/config.yaml" ]; then
    megaportraits train "$1" --out "$out/$3" --resume
  else
    megaportraits train "$1" --config "$2" --data "$data" --out "$out/$3" \
      --set "optim.steps=$steps" --set optim.batch_size=12 --set "run.seed=$seed"
  fi
}

train baseline fomm-nano fomm
train baseline face-vid2vid-nano face-vid2vid
train base nano-paper paper
train base nano nano
