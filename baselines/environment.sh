# shellcheck shell=bash
# Sourced by run_all.sh and tests/run.sh:
#
#     prepare_environment ROOT [EXTRA]
#
# finds or makes ROOT/.venv and installs the project there, editable and with the versions of constraints.txt, where
# that is not done already. Afterwards $venv is the folder. EXTRA is one of setup.cfg's extras, such as test.
#
# The scripts use this .venv alone. An activated environment (VIRTUAL_ENV, conda) is left as it is: what is installed
# there is unknown, and installing into it would change somebody's other work. PYTHON=/path/to/python names the Python
# that a new .venv is made with. Written for bash 3.2 too, the one on macOS.

say() { printf '%s\n' "$@" >&2; }
fail() {
    say "$@"
    exit 1
}

supported() { # the versions of python_requires in setup.cfg
    case $1 in 3.11 | 3.12 | 3.13) ;; *) return 1 ;; esac
}

# The Python behind an activated environment, which may be the very .venv that is to be made anew.
readonly ask_base='import ensurepip, venv, sys; print(getattr(sys, "_base_executable", sys.executable))'
ask_version='import sys; print("%d.%d" % sys.version_info[:2])'

# Prints the first Python on this machine that can make a .venv, or says what is missing.
find_python() {
    local candidate version unfit="" without_venv=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3 python; do
        # Asked rather than looked up: a version manager's stand-in is on the PATH without being there.
        version=$("$candidate" -c "$ask_version" 2>/dev/null) || continue
        if ! supported "$version"; then
            unfit="$unfit${unfit:+, }$candidate is $version"
        elif "$candidate" -c "$ask_base" 2>/dev/null; then
            return
        else
            without_venv=${without_venv:-$version}
        fi
    done
    [ -z "$without_venv" ] || fail \
        "Python $without_venv is here, but its venv module is not (Debian and Ubuntu package it apart)." \
        "Install it, for example with: sudo apt install python$without_venv-venv" \
        "Then run this script again."
    fail "No Python from 3.11 to 3.13 was found (${unfit:-no Python at all}; PYTHON is ${PYTHON:-not set})." \
        "Install one, or name one that is not on the PATH: PYTHON=/path/to/python3.12 bash $0"
}

# Is there a .venv that packages can be installed into? Sets $version.
usable() {
    [ ! -e "$venv/unfinished" ] || return 1
    version=$("$venv/bin/python" -I -c "import pip; $ask_version" 2>/dev/null) && supported "$version"
}

# Everything that decides what is installed. The folder is part of it: an editable install points to it, and so do the
# first lines of the commands, so that a .venv that was moved must be installed into again.
installation_key() {
    { printf '%s\n' "$root" "$version" && cat "$root/setup.cfg" "$root/pyproject.toml" "$root/constraints.txt"; } | cksum
}

# .venv/stamp holds the key of the last complete installation and the extras installed with it.
stamped_extras() {
    [ ! -e "$venv/stamp" ] || sed -n 2p "$venv/stamp"
}
up_to_date() {
    usable && [ -e "$venv/stamp" ] && [ "$(sed -n 1p "$venv/stamp")" = "$(installation_key)" ] || return 1
    case ",$(stamped_extras)," in *",$extra,"*) ;; *) [ -z "$extra" ] ;; esac
}

# Holds file descriptor 9 for this process and its children. The system lets go of it when the last of them ends,
# however it ends, so that no lock is ever left behind, and a pip that outlives a killed script still counts.
take_lock() {
    local flock='import fcntl, sys
try:
    fcntl.flock(9, fcntl.LOCK_EX | (fcntl.LOCK_NB if sys.argv[1] == "now" else 0))
except BlockingIOError:
    sys.exit(1)
except OSError:
    pass  # a file system without locks'
    if ! "$1" -I -c "$flock" now; then
        say "Another run (process $(cat "$venv/lock")) is installing into $venv: waiting for it to finish."
        "$1" -I -c "$flock" wait 2>/dev/null
    fi
    echo $$ >"$venv/lock"
}

make_venv() {
    local python=$1 said
    if [ -e "$venv/pyvenv.cfg" ] || [ -e "$venv/bin" ]; then
        say "Making $venv anew: its Python is gone or of another version, or its installation was cut short."
        find "$venv" -mindepth 1 -maxdepth 1 ! -name lock -exec rm -rf {} +
    else
        say "Making $venv with $python."
    fi
    if ! said=$("$python" -m venv "$venv" 2>&1); then
        say "The virtual environment could not be made. The last lines of what Python says:"
        printf '%s\n' "$said" | last_lines
        fail "$(space_left)"
    fi
}

last_lines() { tail -n 12 | sed 's/^/    /' >&2; }
space_left() { df -Pk "$venv" | awk 'NR == 2 { printf "Space left on that disk: %.1f GB.\n", $4 / 1e6 }'; }

explain_pip_failure() {
    local log=$1
    say "" "The installation failed. The last lines of what pip says:"
    last_lines <"$log"
    say ""
    if grep -qiE 'no space left|disk quota' "$log"; then
        say "The disk is full. $(space_left) About 8 GB are needed; where the temporary folder is the small one," \
            "TMPDIR=/a/larger/folder names another."
    elif grep -qE 'ConnectionError|ConnectTimeout|ReadTimeout|Name or service|name resolution|getaddrinfo|unreachable|ProxyError|SSLError|Max retries' "$log"; then
        say "The packages could not be downloaded: is there a network, and does it need a proxy (HTTPS_PROXY)?"
    elif grep -qE 'No matching distribution' "$log"; then
        say "A package has no build for Python $version on $(uname -sm). Try another Python:" \
            "PYTHON=/path/to/python3.12 bash $0, after deleting $venv."
    elif grep -qi 'permission denied' "$log"; then
        say "Some folder may not be written to: see the lines above."
    fi
    fail "The full log is $log. Running the script again goes on from here."
}

install_project() {
    local python log=$venv/install.log
    if usable; then python=$venv/bin/python; else python=$(find_python); fi
    take_lock "$python"
    ! up_to_date || return 0 # another run did it meanwhile
    if ! usable; then
        make_venv "$python"
        usable || fail "$venv was made, but its Python does not run. Delete the folder and run this script again."
    fi

    # What was installed before stays installed: tests/run.sh and run_all.sh take turns without reinstalling.
    extras=$(stamped_extras)
    case ",$extras," in *",$extra,"*) ;; *) extras=$extras${extras:+${extra:+,}}$extra ;; esac
    if [ -e "$venv/stamp" ]; then
        say "Bringing $venv up to date."
    else
        say "Installing the project and what it needs into $venv." \
            "PyTorch is a large download (some 100 MB to 3 GB, by system): the first time takes minutes."
    fi
    rm -f "$venv/stamp"
    : >"$venv/unfinished"
    cd "$root" || exit
    # The log has everything; the screen what takes long. A user's own pip settings must not lead out of .venv.
    if ! PIP_USER=0 "$venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        -c constraints.txt -e ".${extras:+[$extras]}" 2>&1 |
        tee "$log" | awk '/Downloading .*[MG]B\)|Installing collected|WARNING: Retrying/ { print "    " substr($0, 1, 160); fflush() }' >&2; then
        rm -f "$venv/unfinished"
        explain_pip_failure "$log"
    fi
    { installation_key && printf '%s\n' "$extras"; } >"$venv/stamp.new"
    mv "$venv/stamp.new" "$venv/stamp"
    rm -f "$venv/unfinished"
    say "Installed."
}

prepare_environment() {
    root=$1 extra=${2:-}
    venv=$root/.venv
    unset PYTHONHOME # would send .venv's Python to another one's library
    up_to_date && return
    if ! mkdir -p "$venv" || ! : >>"$venv/lock"; then fail "$venv cannot be made or written to."; fi
    (install_project) 9>>"$venv/lock"
}
