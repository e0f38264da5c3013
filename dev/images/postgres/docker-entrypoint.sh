#!/bin/bash
# Starts Postgres as the official image does, with the same variables:
#   POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, POSTGRES_INITDB_ARGS (each also as <name>_FILE),
#   POSTGRES_HOST_AUTH_METHOD, PGDATA, /docker-entrypoint-initdb.d/*.{sh,sql,sql.gz}.
# Arguments that begin with - are given to the server.
set -eu -o pipefail

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# Takes a variable's value from the file that <name>_FILE names.
from_file() {
    local name=$1 file_name=$1_FILE
    if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
        fail "error: both $name and $file_name are set"
    fi
    if [ -n "${!file_name:-}" ]; then
        printf -v "$name" '%s' "$(<"${!file_name}")"
    fi
    unset "$file_name"
}

# initdb asks for the name of the user it runs as, and a pod may run as any number.
with_a_user_name() {
    if getent passwd "$(id -u)" >/dev/null; then
        "$@"
        return
    fi
    local names
    names=$(mktemp --directory)
    printf 'postgres:x:%s:%s:PostgreSQL:%s:/bin/false\n' "$(id -u)" "$(id -g)" "$PGDATA" >"$names/passwd"
    printf 'postgres:x:%s:\n' "$(id -g)" >"$names/group"
    LD_PRELOAD=libnss_wrapper.so NSS_WRAPPER_PASSWD=$names/passwd NSS_WRAPPER_GROUP=$names/group "$@"
    rm -r "$names"
}

prepare_folders() {
    mkdir -p "$PGDATA"
    # A volume's root belongs to root and is shared through its group; then only what is below can be made private.
    chmod 0700 "$PGDATA" 2>/dev/null || true
    mkdir -p /var/run/postgresql 2>/dev/null || true
    if [ "$(id -u)" = 0 ]; then
        chown -R postgres:postgres "$PGDATA" /var/run/postgresql
        chmod 03775 /var/run/postgresql
    fi
}

initialise() {
    local method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}
    if [ -z "${POSTGRES_PASSWORD:-}" ] && [ "$method" != trust ]; then
        fail "error: the database is not initialised and POSTGRES_PASSWORD is not set" \
            "(POSTGRES_HOST_AUTH_METHOD=trust allows all connections without a password)"
    fi
    # The extra arguments may hold quotes of their own.
    eval 'with_a_user_name initdb --username="$POSTGRES_USER" --pwfile=<(printf "%s\n" "${POSTGRES_PASSWORD:-}") --auth-local=trust --auth-host="$method" '"${POSTGRES_INITDB_ARGS:-}"
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"
}

# A server for this container alone, while the database is filled.
temporary_server() {
    PGUSER=$POSTGRES_USER pg_ctl --silent --wait -o "-c listen_addresses='' -p ${PGPORT:-5432}" "$1"
}

psql_here() {
    psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

fill() {
    if [ "$POSTGRES_DB" != postgres ]; then
        psql_here --dbname postgres --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db"'
    fi
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh) if [ -x "$file" ]; then "$file"; else . "$file"; fi ;;
            *.sql) psql_here --dbname "$POSTGRES_DB" --file "$file" ;;
            *.sql.gz) gunzip -c "$file" | psql_here --dbname "$POSTGRES_DB" ;;
        esac
    done
}

main() {
    if [ "${1:-}" = "" ] || [ "${1:0:1}" = - ]; then
        set -- postgres "$@"
    fi
    if [ "$1" != postgres ]; then
        exec "$@"
    fi
    prepare_folders
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid=postgres --regid=postgres --init-groups -- "$0" "$@"
    fi
    from_file POSTGRES_PASSWORD
    from_file POSTGRES_USER
    from_file POSTGRES_DB
    from_file POSTGRES_INITDB_ARGS
    POSTGRES_USER=${POSTGRES_USER:-postgres}
    POSTGRES_DB=${POSTGRES_DB:-$POSTGRES_USER}
    if [ ! -s "$PGDATA/PG_VERSION" ]; then
        initialise
        temporary_server start
        fill
        temporary_server stop
        printf '\nPostgreSQL init process complete; ready for start up.\n\n'
    fi
    unset POSTGRES_PASSWORD
    exec "$@"
}

main "$@"
