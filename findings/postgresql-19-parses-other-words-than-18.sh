#!/bin/sh
# Expected: with the same options of initdb (locale C, builtin provider C.UTF-8) 19 finds the words that 18 finds.
# Happens: 18 takes every character beyond ASCII for a letter, as its C locale says; 19 (beta 3) asks the builtin
# locale: digits of other scripts, emoji and combining marks that begin a word are blanks. A tsvector that 18 stored is
# then not found by the question that found it before (to_tsquery is empty); pg_upgrade keeps it.
# Needs the folders of programs of both: PG18=... PG19=...
set -eu
: "${PG18:?the bin folder of a PostgreSQL 18}" "${PG19:?the bin folder of a PostgreSQL 19}"
folder=$(mktemp -d)
chmod 755 "$folder"
trap 'rm -rf "$folder"' EXIT
as() { if [ "$(id -u)" = 0 ]; then setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; else "$@"; fi; }
words() {
    mkdir "$folder/$2"
    [ "$(id -u)" != 0 ] || chown 65534:65534 "$folder/$2"
    as "$1/initdb" --pgdata="$folder/$2" --encoding=UTF8 --locale=C --locale-provider=builtin \
        --builtin-locale=C.UTF-8 --no-sync >"$folder/$2.log"
    printf '%s\n' "SELECT 'words: ' || to_tsvector('simple', U&'order \0663\0664 ok\+01F44D')::text" |
        as "$1/postgres" --single -j -D "$folder/$2" postgres 2>>"$folder/$2.log" | sed -n 's/.*"words: \(.*\)".*/\1/p'
}
before=$(words "$PG18" old)
after=$(words "$PG19" new)
echo "18: $before; 19: $after"
[ "$before" != "$after" ]
