# Sends the coverage reports of other jobs to Codecov. This pod has the token, so nothing of the repository is in it.
if ! command -v codecovcli > /dev/null; then
    echo 'codecov-upload: this image has no `codecovcli`; install it from PyPI: pip install codecov-cli' >&2
    exit 127
fi
# Token and name of the repository reach the program by CODECOV_TOKEN and CODECOV_SLUG. Each value is an argument of
# its own. `local`: what kind of machine this is need not be found out, which would take git.
set -- --auto-load-params-from local --disable-telem ${CODECOV_URL:+--enterprise-url "$CODECOV_URL"} upload-coverage \
    --fail-on-error --disable-search --plugin noop --git-service "${CODECOV_GIT_SERVICE:-github}" \
    --sha "$COMMIT" --name "$RUN_NAME"
if [ -n "${BRANCH:-}" ]; then set -- "$@" --branch "$BRANCH"; fi
if [ -n "${PULL_REQUEST:-}" ]; then set -- "$@" --pr "$PULL_REQUEST"; fi
for file in "$INPUTS"/coverage-*.xml; do set -- "$@" --file "$file"; done
while IFS= read -r flag; do
    if [ -n "$flag" ]; then set -- "$@" --flag "$flag"; fi
done <<FLAGS
$CODECOV_FLAGS
FLAGS
codecovcli "$@"
