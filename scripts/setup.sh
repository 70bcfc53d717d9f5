#!/bin/sh
# Makes a virtual environment with this package and its tested pins; resolves nothing on your machine.
#   scripts/setup.sh .venv cpu            # or gpu
#   scripts/setup.sh .venv cpu dev        # with the packages that tests, checks and docs need
# Asks nothing, and prints one line about what is missing. An environment that is up to date is left alone.
set -eu
venv=$1
platform=$2
extra=${3:-}
cd "$(dirname "$0")/.."
die() {
    echo "setup: $1" >&2
    exit 3
}

# Prints the path of a Python made by uv's own download; uv comes from PATH, or by pip of any python3.
fetch_python() {
    tools=$(mktemp -d)
    trap 'rm -rf "$tools"' EXIT
    if ! uv=$(command -v uv); then
        python3 -m venv "$tools" && "$tools/bin/python" -m pip install --quiet 'uv>=0.9' || return 1
        uv=$tools/bin/uv
    fi
    "$uv" python install --quiet 3.11 && "$uv" python find --managed-python 3.11
}

# Prints the first Python that the pins are resolved for.
find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
            "$candidate" -c 'import ensurepip, venv' 2>/dev/null ||
                die "$candidate cannot make environments; Debian: apt-get install python3-venv"
            command -v "$candidate"
            return
        fi
    done
    [ -z "${PYTHON:-}" ] || die "PYTHON=$PYTHON is not Python 3.11, 3.12 or 3.13"
    echo "setup: no Python 3.11, 3.12 or 3.13 here; asking uv for one" >&2
    fetch_python 2>/dev/null ||
        die "uv could not fetch one; install Python 3.11, 3.12 or 3.13 (Debian: apt-get install python3 python3-venv), or set PYTHON"
}

case "$(uname -s)-$(uname -m)" in
Linux-x86_64 | Linux-aarch64) ;;
*) die "the pins are for Linux on x86-64 or arm64; see requirements/README.md" ;;
esac

stamp=$venv/.setup
pins=$(cat requirements/*.txt pyproject.toml | cksum)
if [ -f "$stamp" ] && "$venv/bin/python" -c '' 2>/dev/null; then
    case "$(cat "$stamp")" in
    "$platform $extra $pins" | "$platform dev $pins") exit 0 ;;
    "$platform "*) ;;
    *) die "$venv has another platform's packages, which overlap with these; use another folder, or make clean" ;;
    esac
fi

if ! "$venv/bin/python" -c '' 2>/dev/null; then
    python=$(find_python)
    "$python" -m venv --clear "$venv"
fi
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
        if ls "$folder" 2>/dev/null | grep -q "^torch-$torch-$tag-.*$(uname -m)"; then
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
