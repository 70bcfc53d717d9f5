#!/bin/sh
# A virtual environment with this package and its tested pins; nothing is resolved on your machine.
#   scripts/setup.sh .venv cpu            # or gpu
#   scripts/setup.sh .venv cpu dev        # and what tests need
# Asks nothing and says in one line what is missing. An environment that is up to date is left alone.
set -eu
venv=$1
platform=$2
extra=${3:-}
cd "$(dirname "$0")/.."
die() {
    echo "setup: $1" >&2
    exit 3
}

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || die "the pins are for Linux x86-64; see requirements/README.md"
python=
for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || die "no Python 3.11 or 3.12 here; install one (Debian: apt-get install python3), or set PYTHON to it"
"$python" -c 'import ensurepip, venv' 2>/dev/null || die "$python cannot make environments; Debian: apt-get install python3-venv"

stamp=$venv/.setup
pins=$(cat requirements/*.txt pyproject.toml | cksum)
if [ -f "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    case "$(cat "$stamp")" in
    "$platform $extra $pins" | "$platform dev $pins") exit 0 ;;
    "$platform "*) ;;
    *) die "$venv holds another platform's packages, which overlap with these; use another folder, or make clean" ;;
    esac
fi

"$venv/bin/python" -c '' 2>/dev/null || "$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'uv>=0.9' || die "pip could not install uv: see above"

set -- -r "requirements/$platform.txt"
[ -z "$extra" ] || set -- "$@" -r "requirements/$extra.txt"
if [ "$platform" = cpu ]; then
    # PyTorch's CPU wheels: from the folders pip is configured with, where one holds the wheel; else from
    # PyTorch's own CPU index, which uv knows by name.
    tag=$("$venv/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    torch=$(sed -n 's/^torch==//p' requirements/cpu.txt)
    folders=$("$venv/bin/python" -m pip config list | sed -n "s/.*find-links='\(.*\)'/\1/p" | sort -u)
    source="--torch-backend cpu"
    for folder in $folders; do
        # shellcheck disable=SC2010 # names of wheels are plain
        if ls "$folder" 2>/dev/null | grep -q "^torch-$torch-$tag-"; then
            source="--find-links $folder"
        fi
    done
    # shellcheck disable=SC2086 # options, split on purpose
    set -- "$@" $source
fi
echo "setup: installing requirements/$platform.txt${extra:+ and requirements/$extra.txt} into $venv"
# With byte code: compiling the same sources is otherwise half of what a run's ten processes do at start.
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --compile-bytecode "$@" ||
    die "the pins could not be installed: see above"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps -e . ||
    die "this package could not be installed: see above"
printf '%s %s %s' "$platform" "$extra" "$pins" >"$stamp"
