"""Options of an ini section: read one by one, each with a type and a default.

Each reader names the options that it reads. An option that is left over at the end is unknown, and
a mistyped name is an error instead of a default. Every complaint is one line that names the key,
the value and what would be right.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from paste.deploy.converters import asbool


class ConfigError(SystemExit):
    """A mistake in a configuration.

    A SystemExit, because the person who can mend it is at the shell and not in the code: where
    it is not caught, Python prints the message, without a traceback, and exits with 1.
    """

    def __init__(self, message: str) -> None:
        # In one line, whatever it quotes: a value goes on where the ini's next line is indented.
        super().__init__(" ".join(message.split()))


class Options:
    """The options of `section` whose names begin with `prefix`, named here without it."""

    def __init__(self, section: Mapping[str, str], prefix: str = "") -> None:
        self._prefix = prefix
        self._given = {
            key.removeprefix(prefix): value.strip()
            for key, value in section.items()
            if key.startswith(prefix)
        }
        self._known: list[str] = []

    def text(self, name: str, default: str) -> str:
        """An option as it is written."""
        given = self._take(name)
        return default if given is None else given

    def whole(self, name: str, default: int, *, least: int, most: int | None = None) -> int:
        """A whole number from `least` to `most`."""
        given = self._take(name)
        if given is None:
            return default
        wanted = f"a whole number of at least {least}"
        if most is not None:
            wanted = f"a whole number from {least} to {most}"
        try:
            number = int(given)
        except ValueError:
            raise self.wrong(name, given, wanted) from None
        if number < least or (most is not None and number > most):
            raise self.wrong(name, given, wanted)
        return number

    def seconds(self, name: str, default: float, *, zero: bool = False) -> float:
        """A number of seconds, more than 0, or also 0 itself where `zero` says so."""
        given = self._take(name)
        if given is None:
            return default
        wanted = f"a number of seconds, {'0 or more' if zero else 'more than 0'}"
        try:
            number = float(given)
        except ValueError:
            raise self.wrong(name, given, wanted) from None
        if not math.isfinite(number) or number < 0 or (number == 0 and not zero):
            raise self.wrong(name, given, wanted)
        return number

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        given = self._take(name)
        if given is None:
            return default
        try:
            return asbool(given)  # type: ignore[no-any-return]
        except ValueError:
            raise self.wrong(name, given, "true or false") from None

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """One of some words."""
        given = self._take(name)
        if given is None:
            return default
        if given not in choices:
            raise self.wrong(name, given, " or ".join(choices))
        return given

    def below(self, name: str) -> dict[str, str]:
        """All options that begin with `name` and a dot, named without that."""
        prefix = name + "."
        self._known.append(prefix + "…")
        found = [given for given in self._given if given.startswith(prefix)]
        return {given.removeprefix(prefix): self._given.pop(given) for given in found}

    def wrong(self, name: str, given: str, wanted: str) -> ConfigError:
        """The error to raise for a value that will not do."""
        return ConfigError(f"{self._prefix}{name} = {given}: this must be {wanted}")

    def finish(self) -> None:
        """All options have been read: raises ConfigError for one that was not read."""
        for name in self._given:
            close = difflib.get_close_matches(name, self._known, 1)
            known = (
                f"did you mean {self._prefix}{close[0]}?"
                if close
                else "known are " + ", ".join(self._prefix + known for known in sorted(self._known))
            )
            raise ConfigError(f"{self._prefix}{name}: there is no such option; {known}")

    def _take(self, name: str) -> str | None:
        self._known.append(name)
        return self._given.pop(name, None)
