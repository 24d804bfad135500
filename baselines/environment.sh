# shellcheck shell=bash
# Sourced by run_all.sh and tests/run.sh: prepare_environment ROOT EXTRA creates ROOT/.venv if needed, installs the
# project there with that extra of setup.cfg, editable and in the versions of constraints.txt, and sets $venv. An
# activated environment is never used, because it may belong to other work. PYTHON=/path/to/python sets the Python for a
# new .venv. Compatible with bash 3.2, the version on macOS.

say() { printf '%s\n' "$@" >&2; }
fail() { say "$@"; exit 1; }
supported() { [[ $1 == 3.* && ${1#3.} -ge 11 ]]; } # python_requires in setup.cfg
ask_version='import sys; print("%d.%d" % sys.version_info[:2])'
# The Python behind an activated environment, which may be the .venv that must be recreated.
ask_base='import ensurepip, venv, sys; print(getattr(sys, "_base_executable", sys.executable))'

find_python() { # prints the first Python that can create a .venv, or fails and says what is missing
    local candidate version unfit="" bare=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3.14 python3 python; do
        # Run it rather than look it up: a version manager's shim can be on the PATH without a Python behind it.
        version=$("$candidate" -c "$ask_version" 2>/dev/null) || continue
        supported "$version" || { unfit="$unfit${unfit:+, }$candidate is $version" && continue; }
        "$candidate" -c "$ask_base" 2>/dev/null && return
        bare=${bare:-$version}
    done
    [ -z "$bare" ] || fail "Python $bare has no venv module (Debian and Ubuntu package it separately)." \
        "Install it, for example with: sudo apt install python$bare-venv" "Then run this script again."
    fail "No Python 3.11 or later was found (${unfit:-no Python at all}; PYTHON is ${PYTHON:-not set})." \
        "Install one, or name one that is not on the PATH: PYTHON=/path/to/python3.12 bash $0"
}

# .venv/stamp has the key of the last complete installation and its extras; .venv/unfinished those of one in progress.
# The folder is part of the key, because an editable install and its commands point to it.
stamp() { sed -n "$1p" "$venv/stamp" 2>/dev/null || true; }
installation_key() { (cd "$root" && { pwd; echo "$version"; cat setup.cfg pyproject.toml constraints.txt; } | cksum); }
ask_pip() { "$venv/bin/python" -I -c "import pip; $ask_version" 2>/dev/null; }
usable() { [ ! -e "$venv/unfinished" ] && version=$(ask_pip) && supported "$version"; } # by pip; sets $version
up_to_date() { usable && [ "$(stamp 1)" = "$(installation_key)" ] && [[ ,$(stamp 2), == *",$extra,"* ]]; }

# Locks file descriptor 9 until the last process that holds it ends, which may be a pip that outlives its script.
take_lock='import fcntl, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL)
try: fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: print(*sys.argv[1:], file=sys.stderr), fcntl.flock(9, fcntl.LOCK_EX)
except OSError: pass  # a file system without locks'

explain_failure() { # of pip, from its log
    cause() { ! grep -qiE "$1" "$log" || { say "${@:2}" && return 1; }; }
    say "" "The installation failed. pip's last lines:" "$(tail -n 12 "$log" | sed 's/^/    /')" ""
    cause 'no space left|disk quota' "The disk is full. Space left: $(df -Ph "$venv" | awk 'NR == 2 { print $4 }')." \
        "About 8 GB are needed. If the temporary folder is too small, set TMPDIR=/a/larger/folder." &&
        cause 'ConnectionError|TimeoutError|name resolution|getaddrinfo|unreachable|ProxyError|SSLError|Max retries' \
            "The packages could not be downloaded: is there a network, and does it need a proxy (HTTPS_PROXY)?" &&
        cause 'No matching distribution' "A package has no build for Python $version on $(uname -sm)." \
            "Try another Python: PYTHON=/path/to/python3.12 bash $0, after deleting $venv." || true
    rm -f "$venv/unfinished"
    fail "The full log is $log. After fixing the cause, run the script again; it continues from here."
}

install_project() {
    local python=$venv/bin/python log=$venv/install.log how="" extras
    usable || python=$(find_python)
    "$python" -I -c "$take_lock" "Another run (process $(cat "$venv/lock")) is installing into $venv:" \
        "waiting for it to finish."
    echo $$ >"$venv/lock"
    ! up_to_date || return 0 # another run did it meanwhile
    if ! usable; then
        [ -e "$venv/bin" ] && how=" again: its Python is missing or has changed, or its installation was interrupted."
        say "Making $venv${how:- with $python.}"
        find "$venv" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
        { "$python" -m venv "$venv" >&2 && usable; } || fail "$venv could not be created, or its Python does not run."
    fi
    extras=$(stamp 2) # stay installed, so tests/run.sh and run_all.sh can alternate without reinstalling
    [[ ,$extras, == *",$extra,"* ]] || extras=${extras:+$extras,}$extra
    [ ! -e "$venv/stamp" ] || say "Updating $venv."
    [ -e "$venv/stamp" ] || say "Installing the project and its dependencies into $venv." \
        "PyTorch is a large download (100 MB to 3 GB, depending on the system), so the first time takes minutes."
    rm -f "$venv/stamp" && printf '%s\n' "$(installation_key)" "$extras" >"$venv/unfinished"
    # The log has everything, the screen only what takes long. A user's pip settings must not lead outside .venv.
    PIP_USER=0 "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        -c constraints.txt -e ".[$extras]" 2>&1 | tee "$log" |
        awk '/Downloading .*[MG]B\)|Installing collected|Retrying/ { print "    " substr($0, 1, 160); fflush() }' >&2 ||
        explain_failure
    mv "$venv/unfinished" "$venv/stamp"
    say "Installed."
}

prepare_environment() {
    root=$1 extra=$2 venv=$1/.venv
    unset PYTHONHOME # it would make .venv's Python use another one's library
    ! up_to_date || return 0
    { mkdir -p "$venv" && : >>"$venv/lock"; } || fail "$venv cannot be created or written to."
    (cd "$root" && install_project) 9>>"$venv/lock"
}
