"""Sessions of nox: the tests on each supported Python, and with OpenCV 5.

``nox`` runs all, ``nox -s tests-3.13`` one; words after ``--`` go to pytest. Each session installs into a fresh
environment (3 GB).
"""

import nox

PYTHONS = ("3.11", "3.12", "3.13")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Runs all tests on one Python."""
    session.install(".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(python=PYTHONS[-1])
def opencv5(session: nox.Session) -> None:
    """Runs all tests with the newest OpenCV, without those of the Haar cascades, which OpenCV 5 lacks."""
    session.install(".[test]")
    session.install("opencv-python>=5")
    session.run("python", "-m", "pytest", *session.posargs)
