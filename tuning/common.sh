# shellcheck shell=sh
# What the scripts of this folder share. What was there before is saved before anything is changed, in
# /var/lib/pinfeed or the folder that PINFEED_STATE names. PINFEED_ROOT stands before /sys, /proc and /var.
root=${PINFEED_ROOT:-}
state=${PINFEED_STATE:-$root/var/lib/pinfeed}
name=$(basename "$0")
saved=$state/$name.saved
saved_before=
# Nothing that these scripts change outlives a restart, so what was saved before one is of no use.
boot=$(cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || echo unknown)
export LC_ALL=C

# Bad input.
fail() {
    echo "Error: $1" >&2
    exit 2
}

# The host refuses.
give_up() {
    echo "Error: $1" >&2
    exit 1
}

note() {
    echo "note: $1" >&2
}

usage() {
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p;}' "$0"
    exit "$1"
}

# Cores of a list such as 2-4,7, one a line; nothing where it is no such list.
expand() {
    echo "$1" | awk -F, '
        NF == 0 || NR > 1 { bad = 1 }
        {
            for (i = 1; i <= NF; i++) {
                ends = split($i, end, "-")
                if ($i !~ /^[0-9]+(-[0-9]+)?$/ || end[ends] < end[1] + 0 || end[ends] > 8191) {
                    bad = 1
                    exit
                }
                for (core = end[1] + 0; core <= end[ends] + 0; core++) cores = cores core "\n"
            }
        }
        END { if (!bad) printf "%s", cores }' | sort -nu
}

# As expand; each has to be online.
online_cores() {
    given=$(expand "$1")
    [ -n "$given" ] || fail "$1 is no list of cores; give one such as 0,1 or 2-5"
    online=$(cat "$root/sys/devices/system/cpu/online") || give_up "cannot read $root/sys/devices/system/cpu/online"
    for core in $given; do
        expand "$online" | grep -qx "$core" || fail "core $core is not online; give some of $online"
    done
    echo "$given"
}

check_card() {
    case "$1" in
    '' | -* | . | .. | */* | *' '*) fail "'$1' is no name of a network card" ;;
    esac
    [ -e "$root/sys/class/net/$1" ] ||
        fail "there is no network card $1; /sys/class/net shows those there are"
}

# Writes a value; tells whether it was taken.
write() {
    { printf '%s\n' "$2" >"$1"; } 2>/dev/null
}

check_writable() {
    [ -w "$1" ] || give_up "cannot write $1; be root"
}

# What is saved since the host was started, one line each.
saved_lines() {
    [ ! -e "$saved" ] || awk -v boot="$boot" 'NR == 1 { if ($0 != "boot " boot) exit; next } 1' "$saved"
}

# Saves lines. The last word of each is the value there was; of lines that differ in nothing else the oldest stays.
remember() {
    saved_before=$(saved_lines)
    lines=$(printf '%s\n%s\n' "$saved_before" "$1" | awk 'NF {
        what = $0
        sub(/ [^ ]*$/, "", what)
        if (!(what in known)) print
        known[what]
    }')
    save "$lines" || give_up "cannot write $saved; be root, or name another folder in PINFEED_STATE"
}

save() {
    { mkdir -p "$state" && printf 'boot %s\n%s\n' "$boot" "$1" >"$saved.new" && mv "$saved.new" "$saved"; } 2>/dev/null
}

# Ends with what the host refused. Where all went back, the last `remember` is taken back too; else it is kept.
refuse() {
    if [ -n "$2" ]; then
        give_up "$1; and what was changed before did not all go back: undo tries again, by $saved"
    fi
    forget
    give_up "$1, so nothing is changed"
}

# Takes the last `remember` back.
forget() {
    if [ -n "$saved_before" ]; then
        save "$saved_before"
    else
        rm -f "$saved"
        rmdir "$state" 2>/dev/null || true
    fi
}

check_saved() {
    [ -n "$(saved_lines)" ] || fail "there is nothing to undo: $saved has nothing since the host was started"
}
