"""What every catalog must do with keys, sessions, login codes and audit lines. See `test_catalog`."""

from __future__ import annotations

import threading
from dataclasses import replace

from gridkeep.catalog.access import AuditLine, Key, Role, Session
from gridkeep.catalog.base import Catalog

KEY = Key(key_id="k1", name="ci", role=Role.WRITE, owner="me", digest="d" * 64, created_at=5.0)
SESSION = Session(digest="s1", owner="me", role=Role.READ, key_id="k1", created_at=10.0, expires_at=20.0)


def test_each_role_may_do_what_the_ones_before_it_may():
    allowed = {(has, needed) for has in Role for needed in Role if has.allows(needed)}
    order = [Role.READ, Role.WRITE, Role.ADMIN]
    assert allowed == {(has, needed) for i, has in enumerate(order) for needed in order[: i + 1]}


def test_a_key_comes_back_with_its_last_use(catalog: Catalog) -> None:
    catalog.add_key(KEY)
    catalog.add_key(replace(KEY, key_id="k0", created_at=6.0, name="späť\udcff"))
    assert catalog.key("k1") == KEY
    assert catalog.key("k2") is None
    catalog.touch_key("k1", 7.5)
    assert catalog.api_keys() == [
        replace(KEY, last_used_at=7.5),
        replace(KEY, key_id="k0", created_at=6.0, name="späť\ufffd"),
    ]


def test_a_key_is_revoked_once_and_with_it_whom_it_let_in(catalog: Catalog) -> None:
    catalog.add_key(KEY)
    other = replace(SESSION, digest="s2", key_id=None)
    for session in (SESSION, other):
        catalog.add_session(session)
        catalog.add_login_code(session)
    assert catalog.revoke_key("k1", 8.0)
    assert not catalog.revoke_key("k1", 9.0)
    assert not catalog.revoke_key("k9", 9.0)
    assert catalog.key("k1") == replace(KEY, revoked_at=8.0)
    assert catalog.session("s1", 11.0) is None and catalog.take_login_code("s1", 11.0) is None
    assert catalog.session("s2", 11.0) == other and catalog.take_login_code("s2", 11.0) is not None


def test_a_session_ends_by_time_or_when_asked(catalog: Catalog) -> None:
    catalog.add_session(SESSION)
    assert catalog.session("s1", 19.9) == SESSION
    assert catalog.session("s1", 20.0) is None
    catalog.end_session("s1")
    catalog.end_session("s1")
    assert catalog.session("s1", 11.0) is None


def test_what_has_expired_is_dropped_when_the_next_comes(catalog: Catalog) -> None:
    catalog.add_session(SESSION)
    catalog.add_login_code(SESSION)
    later = replace(SESSION, digest="s2", created_at=20.0, expires_at=40.0)
    catalog.add_session(later)
    catalog.add_login_code(later)
    assert catalog.session("s1", 0.0) is None and catalog.take_login_code("s1", 0.0) is None
    assert catalog.session("s2", 21.0) == later


def test_a_login_code_lets_one_in_only(catalog: Catalog) -> None:
    catalog.add_login_code(replace(SESSION, digest="late"))
    assert catalog.take_login_code("late", 20.0) is None
    catalog.add_login_code(SESSION)
    taken: list[Session | None] = []
    threads = [
        threading.Thread(target=lambda: taken.append(catalog.take_login_code("s1", 11.0))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each for each in taken if each] == [replace(SESSION, created_at=0.0)]


def test_audit_lines_are_numbered_and_come_newest_first(catalog: Catalog) -> None:
    lines = [
        AuditLine(at=float(i), who="me", action="run.delete", subject=f"r{i}", detail={"files": i})
        for i in range(1, 5)
    ]
    for line in lines:
        catalog.note(line)
    numbered = [replace(line, number=i) for i, line in enumerate(lines, 1)]
    assert catalog.audit() == numbered[::-1]
    assert catalog.audit(before=3, limit=1) == [numbered[1]]
