#!/usr/bin/env bash
# Prints the path of a virtual environment with kzoo's dependencies; makes it first
# where there is none yet. kzoo itself is run from the checkout.
#
#   bash scripts/environment.sh [--dry-run] [EXTRA ...]     e.g. jax test
#
# It lies in $KZOO_ENVIRONMENTS (default: ~/.cache/kzoo), named after Python's version
# and the requirements that setup.cfg lists, so that checkouts share it. --dry-run only
# prints the path. $PYTHON is the interpreter (default: python3).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    echo "error: $1" >&2
    exit "${2:-1}"
}

python=${PYTHON:-python3}
dry_run=false
if [[ ${1:-} == --dry-run ]]; then
    dry_run=true
    shift
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
    fail "'$python' is not a Python 3.11 or newer; name one in \$PYTHON"

# The first line is the environment's name, the others are its requirements.
plan=$("$python" - "$@" <<'END_OF_PYTHON'
import configparser, hashlib, platform, sys

config = configparser.ConfigParser()
config.read("setup.cfg", encoding="utf-8")
extras = config["options.extras_require"]
requirements = config["options"]["install_requires"].split("\n")
for extra in sys.argv[1:]:
    if extra not in extras:
        sys.exit(f"error: unknown extra '{extra}'; setup.cfg has {', '.join(extras)}")
    requirements += extras[extra].split("\n")
requirements = sorted({line for line in requirements if line})
key = "\n".join([platform.python_version(), *requirements])
print(hashlib.sha256(key.encode()).hexdigest()[:16], *requirements, sep="\n")
END_OF_PYTHON
) || exit 2

environment=${KZOO_ENVIRONMENTS:-${XDG_CACHE_HOME:-$HOME/.cache}/kzoo}/${plan%%$'\n'*}
complete() { [[ -e $environment/complete && -x $environment/bin/python ]]; }

if ! $dry_run && ! complete; then
    mkdir -p "$(dirname "$environment")"
    exec 9>"$environment.lock"
    if command -v flock >/dev/null; then flock 9; fi # macOS has none
    if ! complete; then                              # nobody made it while we waited
        echo "Making the environment $environment; this takes minutes, once." >&2
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "'$python' has no venv; on Debian: apt-get install python3-venv"
        rm -rf "$environment"
        "$python" -m venv "$environment" >&2
        tail -n +2 <<<"$plan" >"$environment/requirements.txt"
        "$environment/bin/python" -m pip install -qq --disable-pip-version-check \
            --requirement "$environment/requirements.txt" >&2 ||
            fail "pip could not install the requirements; see above"
        touch "$environment/complete"
    fi
fi
echo "$environment"
