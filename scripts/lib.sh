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
