"""Names of runs: what is allowed, and names made up for those who give none.

Knows nothing of which names are taken: the catalog says so when a run is created.
"""

from __future__ import annotations

import re
import secrets

from gridkeep.errors import UsageError
from gridkeep.model import EXPERIMENT_SUFFIX, valid_run_name

_ADJECTIVES = (
    "able agile amber apt awake balmy bold brave breezy bright brisk calm candid civil clear clever coral "
    "cosy crisp curious dapper daring deft eager earnest easy fair fleet fluent fond frank fresh gentle "
    "glad golden grand happy hardy honest humble ideal jolly keen kind lively loyal lucid lucky mellow "
    "merry mild modest neat nimble noble patient placid plucky polite proud quick quiet ready robust rosy "
    "serene sharp silver sincere smart snappy solid spry steady still sturdy sunny swift tidy tranquil "
    "trusty upbeat vivid warm wise witty zesty"
)
_SURNAMES = (
    "abel archimedes banach bayes bell bohr boole born cantor carson cauchy cayley chandra clarke coxeter "
    "curie darwin descartes dijkstra dirac einstein erdos euclid euler faraday fermat fermi feynman "
    "fourier franklin galileo galois gauss germain godel goodall hamilton hardy hawking hertz hilbert "
    "hooke hopper hubble hypatia johnson joule kalman kepler khayyam knuth kovalevskaya lagrange lamarr "
    "laplace leibniz lovelace markov maxwell mcclintock meitner mendel minsky mirzakhani nash newton "
    "noether pascal pasteur pauli planck poincare ramanujan riemann rubin sagan shannon somerville tesla "
    "thales turing volta wiles wright yalow"
)


def made_up_name() -> str:
    """`adjective-surname-NNNN`; may be taken: on NameTaken ask for another."""
    adjective, surname = secrets.choice(_ADJECTIVES.split()), secrets.choice(_SURNAMES.split())
    return f"{adjective}-{surname}-{secrets.randbelow(10_000):04d}"


def check_name(name: str) -> None:
    """Raises UsageError, which says what is wrong and suggests a name that is allowed, unless `name` is."""
    if valid_run_name(name):
        return
    raise UsageError(
        f"{name!r} cannot be the name of a run: {_fault(name)}.", f"Try `--name {allowed_name(name)}`."
    )


def allowed_name(name: str) -> str:
    """The allowed name that is nearest to `name`."""
    while EXPERIMENT_SUFFIX.search(name):
        name = EXPERIMENT_SUFFIX.sub("", name)
    fixed = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")
    return fixed if valid_run_name(fixed) else made_up_name()


def _fault(name: str) -> str:
    if not name:
        return "it is empty"
    if len(name) > 63:
        return f"it has {len(name)} characters, and 63 is the most"
    if EXPERIMENT_SUFFIX.search(name):
        return "names that end in -expN are those of experiments"
    if name != name.lower():
        return "only lowercase letters are allowed"
    if wrong := sorted(set(re.findall(r"[^a-z0-9-]", name))):
        return f"{', '.join(repr(each) for each in wrong)} is not allowed, only a-z, 0-9 and hyphens"
    return "it must begin and end with a letter or a digit"
