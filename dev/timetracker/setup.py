"""The one place that holds the version; the app and the release pipeline read it."""

from setuptools import find_packages, setup

setup(
    name="timetracker",
    version="1.0.0",
    description="Time tracking sample app delivered by timetracker-operator",
    packages=find_packages(include=["app", "app.*"]),
    include_package_data=True,
    python_requires=">=3.11",
)
