#!/bin/sh
# Measure this version on a GPU in less than nine minutes. It needs torch, but neither nerfstudio nor an installation.
#
#     scripts/gpu_check.sh OUTPUT SUBJECT SUBJECT
#     scripts/gpu_check.sh --tiny OUTPUT          a test of this script in a minute, also on a CPU
#
# SUBJECT is a capture of 512x512 images. OUTPUT gets gpu_tests.txt (the tests that need a GPU), commit.txt, and
# bench.json with all figures: the preset `full` after 30, 120 and 300 s with its peak memory, and images per second of
# 512x512, exact and baked. Copy the rows of bench.json to docs/bench.json to add them to docs/benchmarks.md.
#
# Both captures are trained at the same time, because one after the other takes a quarter of an hour. A run on a GPU of
# its own does more steps.
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

partnerface() {
    "$python" -c "from partnerface_ns.cli.main import main; main()" "$@"
}

if [ "${1:-}" = --tiny ]; then
    output=${2:?OUTPUT}
    mkdir -p "$output"
    for name in one two; do
        [ -d "$output/$name" ] || partnerface make-subject "$output/$name" --frames 10 --size 32
    done
    set -- "$output/one" "$output/two"
    seconds="0.5 1" variant=two-stage sizes=32 num_test=1
else
    output=${1:?OUTPUT}
    shift
    mkdir -p "$output"
    seconds="30 120 300" variant=full sizes=512 num_test=8
fi
[ $# -eq 2 ] || { echo "two captures are needed, $# are given" >&2; exit 2; }
git -C "$root" rev-parse HEAD > "$output/commit.txt" 2> /dev/null || echo unknown > "$output/commit.txt"

echo "Tests that need a GPU"
(cd "$root" && timeout 90 "$python" -m pytest -q tests/test_gpu.py) > "$output/gpu_tests.txt" 2>&1 ||
    echo "Tests failed or took too long: $output/gpu_tests.txt"
tail -n 1 "$output/gpu_tests.txt"

# shellcheck disable=SC2086
partnerface bench --output "$output" --subjects "$@" --variants "$variant" --seconds $seconds --seeds 1 \
    --num-test "$num_test" --jobs 2 --keep-avatars
longest=${seconds##* }
for subject in "$@"; do
    name=$(basename "$(cd "$subject" && pwd)")
    avatar=$(ls "$output/avatars/$name-$variant"-*"${longest}s-0.pt" | head -n 1)
    partnerface bench --output "$output" --subjects "$subject" --avatar "$avatar" --sizes "$sizes" --num-test "$num_test"
done
echo "All figures: $output/bench.json"
