# Functions for the scripts: messages, checks for tools (has_…), and installation of missing tools (install_…).
# shellcheck shell=sh

say() {
    printf '\n== %s\n' "$*"
}

die() {
    printf '%s: %s\n' "$0" "$*" >&2
    exit 1
}

# Prints one line for a check that cannot run here. scripts/test counts these lines at the end.
skip() {
    printf 'SKIPPED: %s\n' "$*" >&2
    [ -z "${TASKER_SKIPS:-}" ] || printf '%s\n' "$*" >>"$TASKER_SKIPS"
}

has() {
    command -v "$1" >/dev/null
}

# PostgreSQL's programs, because every cluster here is private. `tasker-ctl` chooses among them and reports problems.
has_postgres() {
    for bin in "${PG_BIN:-}" "$(pg_config --bindir 2>/dev/null || true)" /usr/lib/postgresql/*/bin; do
        ! [ -x "$bin/initdb" ] || return 0
    done
    return 1
}

# These functions install what is missing. They print what they install and do not ask, because tests run unattended.

install_compilers() {
    has cargo || die "cargo is missing: install Rust 1.94 or newer with rustup"
    has cc || apt_install gcc
}

install_python() {
    has python3 || apt_install python3
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || die "python3 is older than 3.9: install a newer one"
}

install_postgres() {
    has_postgres || apt_install postgresql
}

apt_install() {
    has apt-get || die "$* is missing, and there is no apt-get to install it"
    as_root=""
    [ "$(id -u)" -eq 0 ] || as_root="sudo"
    say "installing $* with ${as_root:+$as_root }apt-get"
    $as_root apt-get update -qq
    # Without recommended packages, which may start services.
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null || die "$* could not be installed"
}

# install_cargo_tool COMMAND PACKAGE VERSION
install_cargo_tool() {
    ! has "$1" || return 0
    say "installing $2 $3"
    cargo install --quiet --locked "$2@$3" || die "$2 could not be installed"
}

# The linters of scripts/tools.txt, in a virtual environment under target/.
install_linters() {
    linters="$PWD/target/linters"
    if [ ! -x "$linters/bin/ruff" ] || ! cmp -s scripts/tools.txt "$linters/tools.txt"; then
        say "installing the linters of scripts/tools.txt"
        rm -rf "$linters"
        python3 -m venv "$linters" 2>/dev/null || { apt_install python3-venv && python3 -m venv "$linters"; }
        "$linters/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r scripts/tools.txt
        cp scripts/tools.txt "$linters/tools.txt"
    fi
    PATH="$linters/bin:$PATH"
}

# LocalStack, in a virtual environment under target/. Fails without Python 3.11.
install_localstack() {
    localstack="$PWD/target/localstack"
    if [ -x "$localstack/bin/python" ] && cmp -s localstack/requirements.txt "$localstack/requirements.txt"; then
        return 0
    fi
    python=""
    for candidate in python3.11 python3; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] || return 1
    say "installing LocalStack (about a minute)"
    rm -rf "$localstack"
    "$python" -m venv "$localstack" 2>/dev/null || { apt_install python3.11-venv && "$python" -m venv "$localstack"; }
    "$localstack/bin/pip" install --quiet --disable-pip-version-check --require-hashes -r localstack/requirements.txt ||
        die "LocalStack could not be installed"
    "$localstack/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e localstack ||
        die "localstack/ could not be installed"
    cp localstack/requirements.txt "$localstack/requirements.txt"
}
