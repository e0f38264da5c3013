# A first start that is cut off – the node goes down, the release is deleted – leaves a folder that looks like a database
# and lacks half of it. It is marked until the server was reached over TCP, before which nobody can have written to it.
if [ -e "$PGDATA.unfinished" ]; then
    rm -rf "$PGDATA"
fi
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    : >"$PGDATA.unfinished"
fi
exec docker-entrypoint.sh postgres
