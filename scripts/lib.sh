# Shared by the scripts: sourced, not run.

# Prints a command, then runs it.
say() {
    printf '+ %s\n' "$*" >&2
    "$@"
}

# Ends with one line that names what is missing on this machine.
need_tools() {
    local missing=()
    for tool in "$@"; do
        command -v "$tool" >/dev/null || missing+=("$tool")
    done
    if ((${#missing[@]})); then
        echo "Missing: ${missing[*]}. Install a Rust toolchain (rustup, with rustfmt and clippy), a C compiler and git, then run this again." >&2
        exit 1
    fi
}

# Names the broker that real clients are held against: MILLRACE_BINARY, or a debug build made now.
build_millrace() {
    [ -z "${MILLRACE_BINARY:-}" ] || return 0
    need_tools cargo cc git
    say cargo build -q --bin millrace
    export MILLRACE_BINARY="$PWD/target/debug/millrace"
}

# Names the folders of the tests with Kafka clients and of the clients themselves: `tests` and `installed`.
kafka_client_folders() {
    tests="$PWD/server/tests/kafka_clients"
    installed="$PWD/target/kafka-clients"
    mkdir -p "$installed"
}

# Ends with 77 and a line that says what is missing: what needs it cannot be done here, which is no failure.
cannot() {
    echo "Missing: $1, then run $0 again." >&2
    exit 77
}

# Installs the Kafka clients for Python and Node below target/kafka-clients, from their registries, in
# pinned versions. Sets the folders, too; ends with 77, and a line that says why, where they cannot be had.
install_kafka_clients() {
    # Installs again only when what is wanted has changed.
    up_to_date() {
        cmp -s "$1" "$installed/$2" 2>/dev/null
    }

    local tool
    for tool in python3 node npm; do
        command -v "$tool" >/dev/null ||
            cannot "$tool. Install Python 3 with its venv module and Node.js with npm"
    done
    kafka_client_folders
    if ! up_to_date "$tests/requirements.txt" requirements.txt; then
        rm -rf "$installed/python"
        python3 -m venv "$installed/python" ||
            cannot "Python's venv module. Install it (Debian: python3-venv)"
        say "$installed/python/bin/pip" install --quiet --disable-pip-version-check -r "$tests/requirements.txt" ||
            cannot "the Python clients (pip said why). Give pip a registry that it can reach"
        cp "$tests/requirements.txt" "$installed/requirements.txt"
    fi
    if ! up_to_date "$tests/package-lock.json" package-lock.json; then
        mkdir -p "$installed/node"
        cp "$tests/package.json" "$tests/package-lock.json" "$installed/node/"
        (cd "$installed/node" && say npm ci --no-audit --no-fund) ||
            cannot "the JavaScript clients (npm said why). Give npm a registry that it can reach"
        cp "$tests/package-lock.json" "$installed/package-lock.json"
    fi
    export KAFKA_CLIENTS_NODE_MODULES="$installed/node/node_modules"
    export PYTHONDONTWRITEBYTECODE=1
}

# Names kcat in KCAT: the machine's, or Debian's from its archive, unpacked below target/kafka-clients and
# not installed. Needs the folders; returns 1 where there is none.
find_kcat() {
    if command -v kcat >/dev/null; then
        KCAT=$(command -v kcat)
    elif [ -x "$installed/kcat/run" ] || unpack_kcat; then
        KCAT="$installed/kcat/run"
    else
        return 1
    fi
    export KCAT
}

unpack_kcat() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return
    mkdir -p "$installed/kcat/archive"
    (
        cd "$installed/kcat/archive"
        fetch() { apt-get download -qq kcat librdkafka1 libyajl2 2>/dev/null; }
        fetch || { apt-get update -qq && fetch; } 2>/dev/null || exit
        for package in *.deb; do dpkg -x "$package" ../root; done
    ) || return
    local library
    library=$(cd "$installed/kcat" && find root -name 'librdkafka.so.1' | head -1)
    # From where it is itself, so that the folder can be moved.
    printf '#!/bin/sh\nLD_LIBRARY_PATH="${0%%/*}/%s" exec "${0%%/*}/root/usr/bin/kcat" "$@"\n' \
        "$(dirname "$library")" >"$installed/kcat/run"
    chmod +x "$installed/kcat/run"
}
