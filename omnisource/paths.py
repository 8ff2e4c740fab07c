"""What a path means that a user gives, in a config, an override, a flag or an environment variable alike.

`~` and `~user` at its beginning are home folders; the shell replaces them in some of these places only. A relative path
starts from the current folder or, where the help of its key or flag says so, from another one.
"""

from __future__ import annotations

import os
import pwd


class NoHomeFolder(ValueError):
    """A path that begins with `~`, where there is no such home folder."""


def with_home_folder(path: str) -> str:
    """Returns a path with `~` or `~user` at its beginning replaced.

    Raises:
        NoHomeFolder: If nobody has that home folder: a file or folder of the name `~` is never meant.
    """
    first, slash, rest = path.partition("/")
    if not first.startswith("~"):
        return path
    home = home_folder(first[1:])
    if home is None and first == "~":
        raise NoHomeFolder(f"{path}: ~ is the home folder, and this user has none: set HOME, or give the whole path")
    if home is None:
        raise NoHomeFolder(f"{path}: there is no user {first[1:]}; if a file has that name, write ./{path}")
    return f"{home.rstrip('/')}{slash}{rest}" or "/"


def ignore_relative_base_folders() -> None:
    """Takes variables such as `XDG_CACHE_HOME` out of the environment unless they are full paths.

    The standard wants these ignored, but libraries make folders below the current one.
    Source: XDG Base Directory Specification 0.8.
    """
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        if not os.path.isabs(os.environ.get(name, "/")):
            del os.environ[name]


def home_folder(user: str = "") -> str | None:
    """Returns the home folder of a user, or with "" of the one that this process belongs to; None if there is none."""
    if not user and os.path.isabs(os.environ.get("HOME", "")):
        return os.environ["HOME"]
    try:
        found = pwd.getpwnam(user) if user else pwd.getpwuid(os.getuid())
    except (KeyError, ValueError):  # no such user, as in a container; or a name that cannot be one
        return None
    return found.pw_dir if os.path.isabs(found.pw_dir) else None
