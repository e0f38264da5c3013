# Combines the raw coverage data that other jobs have left, and reports on it.
# What is measured and left out is the repository's own say (.coveragerc, setup.cfg, pyproject.toml); where the data
# is and what percentage is enough is not.
if ! command -v coverage > /dev/null; then
    echo 'coverage-report: this image has no `coverage`; install it from PyPI: pip install coverage' >&2
    exit 127
fi
export COVERAGE_FILE="$HOME/.coverage"
coverage combine --keep "$INPUTS"/.coverage.*
coverage xml --fail-under=0 -o "$REPORTS/coverage.xml"
rm -rf coverage-html
coverage html --fail-under=0 --directory coverage-html
coverage report --fail-under=0
