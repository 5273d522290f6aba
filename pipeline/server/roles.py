"""Who may do what: four roles, each a set of permissions. ``docs/access.md`` has the table."""

from enum import StrEnum


class Role(StrEnum):
    """What somebody is at this site."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    AUDITOR = "auditor"


class Permission(StrEnum):
    """What a route asks for."""

    PUBLIC = "public"  # nobody is asked who they are
    SESSION = "session"  # anybody who has logged in
    SITE = "site"  # the state of cameras and disk
    LOOK = "look"  # pictures of people, and who they are
    SEARCH = "search"
    DECIDE = "decide"  # who is who
    CASES = "cases"  # to read them and what was exported
    EVIDENCE = "evidence"  # to open, fill, close and export them
    AUDIT = "audit"
    CONFIG = "config"


_EVERYBODY = frozenset({Permission.PUBLIC, Permission.SESSION, Permission.SITE})
_VIEWER = _EVERYBODY | {Permission.LOOK, Permission.SEARCH, Permission.CASES}
_OPERATOR = _VIEWER | {Permission.DECIDE, Permission.EVIDENCE}

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _OPERATOR | {Permission.AUDIT, Permission.CONFIG},
    Role.AUDITOR: _EVERYBODY | {Permission.CASES, Permission.AUDIT, Permission.CONFIG},
}
