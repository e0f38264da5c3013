# Installs what the requirement files name into one folder and packs it, for all jobs of the run that use it.
# Build code of foreign packages runs here: this container holds no credentials, and what it leaves is checked again.
if [ -s "$KNOWN" ]; then
    echo "there is an image of it: $(cat "$KNOWN")"
    exit 0
fi
packed="$HOME/packed.json"
fail() {
    # One line for the run's status; the log has the rest.
    printf 'error=%s\n' "$(printf '%s' "$1" | tr -d '\r' | cut -c 1-200)" >> "$OUTPUTS"
    exit 1
}
set --
while IFS= read -r file; do set -- "$@" --requirement "$file"; done <<FILES
$REQUIREMENTS
FILES
# On the same volume, so that nothing is copied twice.
export TMPDIR="$ENVIRONMENT/.tmp"
mkdir -p "$TMPDIR"
# Isolated: the working directory is the repository, and a pip.py of its own would be run instead.
python -I -m pip install --target "$ENVIRONMENT" --no-cache-dir --no-compile --no-input --disable-pip-version-check \
    --progress-bar off "$@" 2> "$HOME/pip.log" || failed=$?
cat "$HOME/pip.log" >&2
if [ -n "${failed:-}" ]; then
    fail "$(grep -i '^error' "$HOME/pip.log" | tail -n 1)"
fi
rm -rf "$TMPDIR"
# A folder on PYTHONPATH has no .pth files of its own: this makes Python read them.
if [ ! -e "$ENVIRONMENT/sitecustomize.py" ]; then
    printf 'import os\nimport site\n\nsite.addsitedir(os.path.dirname(os.path.abspath(__file__)))\n' \
        > "$ENVIRONMENT/sitecustomize.py"
fi
# Once here instead of at every start: where it is used, nothing can be written. What does not compile is not imported.
python -I -m compileall -q -j 2 --invalidation-mode unchecked-hash "$ENVIRONMENT" > "$HOME/compile.log" 2>&1 || true
/timetracker/bin/timetracker-agent --termination-message "$packed" \
    environment pack --from "$ENVIRONMENT" --to "$ARCHIVE" || fail "$(cat "$packed")"
cat "$packed"
