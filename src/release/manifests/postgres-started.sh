# While the image's entrypoint fills the database, its server listens on a socket only: over TCP it is ready when it really is.
pg_isready -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"
if [ -e "$PGDATA.unfinished" ]; then
    # Should the node go down now, the mark must not come back.
    rm "$PGDATA.unfinished"
    sync
fi
