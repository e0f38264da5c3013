"""Tells JUnit reports each test's markers, which pytest by itself leaves out.

Found by pytest on PYTHONPATH as an installed plugin; nothing of the repository's changes.
"""

# Marks that say how pytest treats a test, not what it is about.
_OWN = {"filterwarnings", "parametrize", "skip", "skipif", "usefixtures", "xfail"}


def pytest_collection_modifyitems(items):
    for item in items:
        names = sorted({mark.name for mark in item.iter_markers()} - _OWN)
        item.user_properties.append(("timetracker-markers", " ".join(names)))
