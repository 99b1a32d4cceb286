"""The error families of mazejax, and suggestions for misspelt names.

Every error that a user can cause is one line that says where, what was got, what
was wanted and what to do next. This module imports nothing but the standard
library, so that environment workers may use it.
"""

import difflib
from collections.abc import Iterable


class MazejaxError(Exception):
    """Base of all errors that mazejax raises on purpose."""


class ConfigError(MazejaxError):
    """A setting is wrong: an unknown name, a bad value, sizes that do not fit."""


class SpaceError(MazejaxError):
    """A value does not fit the space it was meant for."""


class EnvError(MazejaxError):
    """An environment breaks its contract."""


class FileError(MazejaxError):
    """A file or a run directory is missing, damaged, foreign or of another version."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Sentence with the nearest of the known names, or with all of them if none is near."""
    known = sorted(known)
    likeness = {
        candidate: difflib.SequenceMatcher(None, candidate.lower(), name.lower()).ratio()
        for candidate in known
    }
    # Not far behind the best: a common ending such as "-v1" alone makes names alike by 0.6.
    enough = max(0.6, max(likeness.values(), default=0.0) - 0.15)
    near = [
        one
        for one in sorted(known, key=likeness.__getitem__, reverse=True)
        if likeness[one] >= enough
    ]
    if near:
        return "did you mean " + " or ".join(map(repr, near[:3])) + "?"
    if len(known) > 12:
        return f"known names: {', '.join(known[:12])}, and {len(known) - 12} more"
    return f"known names: {', '.join(known)}" if known else "no names are known"
