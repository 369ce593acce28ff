"""Share links: who makes them, what they open and what they do not, and how they end."""

from __future__ import annotations

import hashlib
import http.client
import io
import re
import time
import zipfile
from dataclasses import replace
from html import unescape
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from gridkeep.catalog.access import Role
from gridkeep.model import JSON, ArtifactState, Experiment, new_ulid
from gridkeep.runs.delete import finish_deletions
from gridkeep.runs.shares import Place, make_share
from tests.api.serving import Served
from tests.api.test_access import visit
from tests.unit.made import keep, make_run

STRANGER = httpx.Client(timeout=60)  # has no key, no cookie, and patience with a busy machine
PAGE = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
FILES = (
    b"_abs/tmp/x",
    b"out/a.txt",
    b"out/deep/b.html",
    b"out2/c",
    b"raw",
    "B\u00fccher \u20ac/100%.csv".encode(),
    b"\xff\n'<b>",
)


def some_files(served: Served, state: str = "completed", **more: object) -> Experiment:
    """An experiment with FILES, each of which holds its own path."""
    [experiment] = make_run(served.context, f"s-{new_ulid()}", [state], **more)[1]
    for path in FILES:
        keep(served.context, experiment, path, path)
    return experiment


def shared(served: Served, **wanted: object) -> str:
    """The address of a new link."""
    answer = served.post("/v1/shares", json=wanted)
    assert answer.status_code == 201, answer.text
    url: str = answer.json()["url"]
    return url


def share_of(served: Served, experiment: Experiment, path: str | None = None) -> str:
    return shared(served, experiment=experiment.name, **({} if path is None else {"path": path}))


def names(answer: httpx.Response) -> set[str]:
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as opened:
        return {name for name in opened.namelist() if not name.endswith(".manifest.jsonl")}


# ----------------------------------------------------------------------------------------------------------- making, listing


def test_a_link_to_each_kind_of_thing(served: Served) -> None:
    experiment = some_files(served)
    artifact = served.context.catalog.artifact_at(experiment.experiment_id, b"raw")
    assert artifact is not None
    cases: list[tuple[JSON, str, str | None]] = [
        ({"run_id": experiment.run}, "run", None),
        ({"run_id": experiment.run_id}, "run", None),
        ({"experiment": experiment.name}, "experiment", None),
        ({"experiment": experiment.experiment_id, "path": "out"}, "folder", "out"),
        ({"experiment": experiment.name, "path": "out/"}, "folder", "out"),
        ({"experiment": experiment.name, "path": "out/a.txt"}, "file", "out/a.txt"),
        ({"artifact_id": artifact.artifact_id}, "file", "raw"),
    ]
    for wanted, scope, path in cases:
        made = served.post("/v1/shares", json=wanted).json()
        assert (made["scope"], made["path"], made["state"]) == (scope, path, "live"), wanted
        assert re.fullmatch(re.escape(served.url) + "/s/[A-Za-z0-9_-]{32}", made["url"])
        listed = served.get(f"/v1/shares?run_id={experiment.run}&limit=1").json()[0]
        assert made.pop("url") and listed == made
        assert (made["run"], made["experiment"]) == (
            experiment.run,
            None if scope == "run" else experiment.name,
        )


def test_a_link_lives_a_day_unless_told_otherwise_and_never_for_ever(served: Served) -> None:
    experiment = some_files(served)

    def lives(expires_in: object) -> float:
        asked = {"experiment": experiment.name, "expires_in": expires_in}
        share = served.context.catalog.share(served.post("/v1/shares", json=asked).json()["share_id"])
        assert share is not None
        return share.expires_at - share.created_at

    assert [lives(asked) for asked in (None, 60, "90m", "7d")] == pytest.approx([86400, 60, 5400, 604800])
    for wrong in (0, -1, "", "never", "31d", 1e300, "0s"):
        answer = served.post("/v1/shares", json={"experiment": experiment.name, "expires_in": wrong})
        assert answer.status_code == 400, wrong


@pytest.mark.parametrize(
    ("wanted", "status"),
    [
        ({}, 422),
        ({"run_id": "x", "experiment": "y"}, 422),
        ({"run_id": "x", "path": "y"}, 422),
        ({"experiment": "x", "path_b64": "!"}, 422),
        ({"run_id": "nothing"}, 404),
        ({"experiment": "nothing-exp0"}, 404),
        ({"artifact_id": "art_00000000000000000000000000"}, 404),
        ({"path": "nothing"}, 404),
        ({"path": "out/../out2"}, 404),
        ({"path": "out/a.txt/"}, 404),
    ],
    ids=str,
)
def test_what_is_not_there_is_not_shared(served: Served, wanted: JSON, status: int) -> None:
    named = (
        wanted if wanted.keys() - {"path"} or not wanted else wanted | {"experiment": some_files(served).name}
    )
    assert served.post("/v1/shares", json=named).status_code == status


def test_what_has_no_bytes_is_not_shared(served: Served) -> None:
    experiment = some_files(served)
    made = keep(served.context, experiment, b"lost", b"1")
    lost = replace(made, sha256=None, state=ArtifactState.MISSING, reason="changed while copied")
    served.context.catalog.record_artifacts(experiment.experiment_id, [lost])
    answer = served.post("/v1/shares", json={"artifact_id": lost.artifact_id})
    assert answer.status_code == 409 and "changed while copied" in answer.json()["detail"]


def test_its_token_is_nowhere_in_the_home(served: Served) -> None:
    token = share_of(served, some_files(served)).rpartition("/")[2].encode()
    home = served.context.home.path
    for name in ("catalog.db", "catalog.db-wal"):
        with open(f"{home}/{name}", "rb") as file:
            text = file.read()
        assert token not in text
    assert STRANGER.get(f"{served.url}/s/{token.decode()}").status_code == 200
    assert token not in served.log.read_bytes()


# ------------------------------------------------------------------------------------------------------------------- who may


def test_only_the_owner_or_an_admin_shares_and_ends(served: Served) -> None:
    experiment = some_files(served, created_by="ann")
    ann, bob = (served.client(Role.WRITE, user=user) for user in ("ann", "bob"))
    wanted = {"experiment": experiment.name}
    refused = bob.post("/v1/shares", json=wanted)
    assert refused.status_code == 403 and "belongs to ann" in refused.json()["detail"]
    assert served.client(Role.READ, user="ann").post("/v1/shares", json=wanted).status_code == 403
    assert served.client(None).post("/v1/shares", json=wanted).status_code == 403
    first = ann.post("/v1/shares", json=wanted).json()
    second = served.post("/v1/shares", json=wanted).json()
    ids = [second["share_id"], first["share_id"]]

    def listed(client: httpx.Client) -> list[str]:
        return [each["share_id"] for each in client.get(f"/v1/shares?run_id={experiment.run}").json()]

    assert listed(ann) == listed(served.client()) == listed(served.client(Role.READ, user="ann")) == ids
    assert listed(bob) == []
    for client in (bob, served.client(Role.READ, user="ann"), served.client(None)):
        assert client.delete(f"/v1/shares/{ids[0]}").status_code == 403
    assert STRANGER.get(second["url"]).status_code == 200
    assert ann.delete(f"/v1/shares/{ids[0]}").json()["state"] == "revoked"
    assert served.delete(f"/v1/shares/{ids[1]}").json()["state"] == "revoked"


def test_a_page_of_another_site_shares_and_ends_nothing(served: Served) -> None:
    experiment = some_files(served)
    browser = visit(served.post("/v1/login-links").json()["url"])
    made = served.post("/v1/shares", json={"experiment": experiment.name}).json()
    for headers in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}):
        assert browser.post("/v1/shares", json={"run_id": experiment.run}, headers=headers).status_code == 403
        assert browser.delete(f"/v1/shares/{made['share_id']}", headers=headers).status_code == 403
    own = {"sec-fetch-site": "same-origin"}
    assert browser.post("/v1/shares", json={"run_id": experiment.run}, headers=own).status_code == 201
    assert browser.delete(f"/v1/shares/{made['share_id']}", headers=own).status_code == 200


def test_making_and_revoking_is_noted(served: Served) -> None:
    made = served.post("/v1/shares", json={"experiment": some_files(served).name}).json()
    for _ in range(2):
        assert served.delete(f"/v1/shares/{made['share_id']}").status_code == 200
    lines = [line for line in served.context.catalog.audit() if line.subject == made["share_id"]]
    assert [(line.who, line.action) for line in lines] == [
        (served.context.user, "share.revoke"),
        (served.context.user, "share.create"),
    ]


def test_pages_of_the_listing(served: Served) -> None:
    experiment = some_files(served)
    ids = [served.post("/v1/shares", json={"run_id": experiment.run}).json()["share_id"] for _ in range(5)]
    seen, address = [], f"/v1/shares?run_id={experiment.run}&limit=2"
    while address:
        answer = served.get(address)
        seen += [each["share_id"] for each in answer.json()]
        address = answer.links.get("next", {}).get("url", "")
    assert seen == sorted(ids, reverse=True)


# ----------------------------------------------------------------------------------------------------------- what they open


@pytest.mark.parametrize(
    ("accept", "as_page"),
    [
        (None, False),
        ("*/*", False),
        ("application/json", False),
        ("text/*", False),
        ("text/html;q=0", False),
        ("text/html;q=0.0, */*", False),
        ("text/html", True),
        ("application/xml, TEXT/HTML;q=0.5", True),
        (PAGE["accept"], True),
    ],
)
def test_a_page_only_for_those_who_name_it(served: Served, accept: str | None, as_page: bool) -> None:
    experiment = some_files(served)
    with httpx.Client(timeout=60) as client:
        del client.headers["accept"]
        headers = {} if accept is None else {"accept": accept}
        file = client.get(share_of(served, experiment, "out/a.txt"), headers=headers)
        folder = client.get(share_of(served, experiment, "out"), headers=headers)
    assert "accept" in file.headers["vary"] and "accept" in folder.headers["vary"]
    if as_page:
        assert file.headers["content-type"] == folder.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in file.headers["content-security-policy"]
    else:
        assert file.content == b"out/a.txt" and "sandbox" in file.headers["content-security-policy"]
        assert folder.headers["content-type"] == "application/zip"


def test_the_bytes_of_each_kind_of_thing(served: Served) -> None:
    experiment = some_files(served)
    of, run = experiment.name, experiment.run
    every = {
        "out/a.txt", "out/deep/b.html", "out2/c", "raw", "_abs/tmp/x", "B\u00fccher \u20ac/100%.csv",
        f"_enc/{hashlib.sha256(FILES[-1]).hexdigest()}",
    }  # fmt: skip
    assert names(STRANGER.get(shared(served, run_id=run))) == {f"{run}/{of}/{name}" for name in every}
    assert names(STRANGER.get(share_of(served, experiment))) == {f"{of}/{name}" for name in every}
    folder = share_of(served, experiment, "out")
    for address in (folder, f"{folder}/raw", f"{folder}/"):
        assert names(STRANGER.get(address)) == {f"{of}/out/a.txt", f"{of}/out/deep/b.html"}
    assert names(STRANGER.get(f"{folder}/raw", headers=PAGE)) == names(STRANGER.get(folder))
    assert names(STRANGER.get(f"{folder}/deep")) == names(STRANGER.get(f"{folder}/raw?path=deep/"))
    assert names(STRANGER.get(f"{folder}/deep")) == {f"{of}/out/deep/b.html"}
    file = share_of(served, experiment, "out/deep/b.html")
    part = STRANGER.get(f"{file}/raw", headers={"range": "bytes=4-7", **PAGE})
    assert (part.status_code, part.content) == (206, b"deep")
    assert (
        "sandbox" in part.headers["content-security-policy"]
        and part.headers["x-content-type-options"] == "nosniff"
    )
    assert STRANGER.get(f"{file}/raw?download=1").headers["content-disposition"].startswith("attachment")
    assert STRANGER.head(file).headers["content-length"] == "15" and STRANGER.head(folder).status_code == 200


def test_every_file_has_an_address_below_the_link(served: Served) -> None:
    experiment = some_files(served)
    run, whole = shared(served, run_id=experiment.run), share_of(served, experiment)
    for path in FILES:
        for base in (whole, f"{run}/{experiment.name}"):
            if (base, path) != (whole, b"raw"):
                assert STRANGER.get(f"{base}/{quote(path)}").content == path
        assert STRANGER.get(f"{whole}/raw?path={quote(path, safe='')}").content == path
    assert names(STRANGER.get(f"{run}/{experiment.name}")) == names(STRANGER.get(whole))


def test_the_page_leads_to_every_file_and_folder_without_scripts(served: Served) -> None:
    experiment = some_files(served)
    lost = replace(
        keep(served.context, experiment, b"out/lost", b"1"),
        sha256=None,
        state=ArtifactState.MISSING,
        reason="<i>why",
    )
    served.context.catalog.record_artifacts(experiment.experiment_id, [lost])
    page = STRANGER.get(share_of(served, experiment), headers=PAGE).text
    assert "This link works until" in page and experiment.name in page
    assert "&lt;i&gt;why" in page and "<i>why" not in page and "<b>" not in page.partition("</header>")[2]
    found, zips = set(), 0
    for href in set(map(unescape, re.findall(r'href="(/s/[^"]*)"', page))):
        answer = STRANGER.get(served.url + href)
        assert answer.status_code == 200, href
        if answer.headers["content-type"] == "application/zip":
            zips += 1
        else:
            found.add(answer.content)
    assert found == set(FILES)
    assert zips > 6
    run = STRANGER.get(shared(served, run_id=experiment.run), headers=PAGE).text
    assert re.search(rf'href="/s/[^"/]+/{experiment.name}/"', run)
    link = share_of(served, experiment, "out/a.txt")
    file = STRANGER.get(link, headers=PAGE).text
    assert f"curl -OJ '{link}'" in unescape(file) and "/raw?path=out%2F'" in unescape(
        STRANGER.get(f"{share_of(served, experiment)}/out", headers=PAGE).text
    )
    assert hashlib.sha256(b"out/a.txt").hexdigest() in file and "9 B" in file


def test_a_large_folder_comes_in_pages(served: Served) -> None:
    [experiment] = make_run(served.context, f"s-{new_ulid()}", ["completed"])[1]
    made = keep(served.context, experiment, b"first", b"1")
    served.context.catalog.record_artifacts(
        experiment.experiment_id,
        [
            replace(made, artifact_id=f"art_{new_ulid()}", path=b"x/%05d" % number, key=None)
            for number in range(2100)
        ],
    )
    address, seen = urlsplit(share_of(served, experiment)).path, []
    while address:
        page = STRANGER.get(served.url + address, headers=PAGE).text
        seen += re.findall(r'class="nm cut" href="[^"]*/(x/\d+)"', page)
        following = re.search(r'href="([^"]*\?after=[^"]*)"', page)
        address = unescape(following[1]) if following else ""
    assert seen == [f"x/{number:05d}" for number in range(2100)]


# ------------------------------------------------------------------------------------------------- what they do not open


OUTSIDE = [
    "../out2/c", "..%2fout2/c", "..%2Fout2%2Fc", "%2e%2e/out2/c", "./a.txt", "deep/../a.txt", "deep%2Fb.html", "/a.txt",
    "//a.txt", "%2Fa.txt", "a.txt/", "a.txt/x", "a.txt%00", "%00", "..%5Cout2%5Cc", "..\\out2\\c", "%5c..%5cout2%5cc",
    "_abs/tmp/x", "..%2f_abs/tmp/x", "out/a.txt", "2/c", "..", "%2e%2e", "..;/out2/c", "deep//b.html", "%ff", "A.TXT",
]  # fmt: skip


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_path_leads_out_of_the_scope(served: Served, path: str) -> None:
    """Asked for as it stands: no client tidies it up."""
    url = urlsplit(share_of(served, some_files(served), "out"))
    connection = http.client.HTTPConnection(url.netloc, timeout=60)
    addresses = [f"{url.path}/{path}"]
    if path.lower() != "deep%2fb.html":  # in a parameter that is how a slash is written
        addresses.append(f"{url.path}/raw?path={path}")
    addresses += [f"/s%2F{url.path[3:]}/{path}", f"{url.path}%2F{path}", f"/s%2F{url.path[3:]}%2F{path}"]
    for address in addresses:
        connection.request("GET", address)
        answer = connection.getresponse()
        assert (answer.status, b"nothing" in answer.read()) == (404, True), address
    connection.close()


def test_strangers_are_not_told_where_things_lie(served: Served) -> None:
    [experiment] = make_run(served.context, f"s-{new_ulid()}", ["completed"])[1]
    made = keep(served.context, experiment, b"out/a.txt", b"1")
    (Path(served.context.home.store) / (made.key or "")).unlink()
    for link in (share_of(served, experiment), share_of(served, experiment, "out/a.txt")):
        answer = STRANGER.get(link)
        assert answer.status_code == 503 and "just now" in answer.json()["detail"]
        assert served.context.home.path not in answer.text
    page = STRANGER.get(share_of(served, experiment, "out/a.txt"), headers=PAGE)
    assert page.status_code == 200 and served.context.home.path not in page.text


def test_a_file_is_all_that_its_link_opens(served: Served) -> None:
    link = share_of(served, some_files(served), "out/a.txt")
    for path in ("a.txt", "b.html", "../raw", "..%2fraw", "out/a.txt", "deep/b.html"):
        assert STRANGER.get(f"{link}/{path}").status_code == 404
        assert STRANGER.get(f"{link}/raw?path={path}").status_code == 404


def test_a_run_is_all_that_its_link_opens(served: Served) -> None:
    mine, other = some_files(served), some_files(served)
    link = shared(served, run_id=mine.run)
    for name in (
        other.name,
        other.experiment_id,
        mine.experiment_id,
        other.run,
        mine.run,
        f"{mine.run}-exp00",
    ):
        assert STRANGER.get(f"{link}/{name}").status_code == 404
        assert STRANGER.get(f"{link}/{name}/out/a.txt").status_code == 404


def test_a_link_is_no_key(served: Served) -> None:
    token = share_of(served, some_files(served)).rpartition("/")[2]
    for headers in ({"x-api-key": token}, {"authorization": f"Bearer {token}"}):
        assert STRANGER.get(f"{served.url}/v1/runs", headers=headers).status_code == 403


def test_a_token_that_was_changed_opens_nothing(served: Served) -> None:
    link = share_of(served, some_files(served))
    token = link.rpartition("/")[2]
    swapped = token[:-1] + ("A" if token[-1] != "A" else "B")
    share_id = served.get("/v1/shares?limit=1").json()[0]["share_id"]
    for wrong in (
        swapped,
        token[:-1],
        token + "A",
        token.swapcase(),
        share_id,
        hashlib.sha256(token.encode()).hexdigest(),
        "x" * 5000,
    ):
        for address in (f"/s/{wrong}", f"/s/{wrong}/raw", f"/s/{wrong}/out/a.txt"):
            answer = STRANGER.get(served.url + address)
            assert (answer.status_code, answer.json()["detail"]) == (404, "There is no such link.")
    page = STRANGER.get(f"{served.url}/s/{swapped}", headers=PAGE)
    assert page.status_code == 404 and "There is no such link." in page.text


# --------------------------------------------------------------------------------------------------------- how they end


def all_ways(link: str) -> list[httpx.Response]:
    asked = [STRANGER.get(f"{link}{way}") for way in ("", "/raw", "/out/a.txt", "/raw?path=out/a.txt")]
    return [*asked, STRANGER.get(link, headers=PAGE), STRANGER.head(link)]


def test_a_link_that_has_ended_says_so(served: Served) -> None:
    experiment = some_files(served)
    run = served.context.catalog.run(experiment.run)
    assert run is not None
    _, token = make_share(served.context.catalog, Place(run, experiment), by="me", ttl=-0.001)
    answers = all_ways(f"{served.url}/s/{token}")
    assert {answer.status_code for answer in answers} == {410}
    assert answers[0].json()["detail"] == "This link has ended." and "This link has ended." in answers[4].text
    assert served.get(f"/v1/shares?run_id={run.name}").json()[0]["state"] == "ended"


def test_a_link_that_was_revoked_says_so_and_others_go_on(served: Served) -> None:
    experiment = some_files(served)
    link, other = share_of(served, experiment), share_of(served, experiment)
    token = link.rpartition("/")[2]
    assert served.delete(f"/v1/shares/{token}").json()["state"] == "revoked"
    answers = all_ways(link)
    assert {answer.status_code for answer in answers} == {410}
    assert answers[0].json()["detail"] == "This link was revoked." and "was revoked" in answers[4].text
    assert {answer.status_code for answer in all_ways(other)} == {200}
    assert served.delete("/v1/shares/shr_00000000000000000000000000").status_code == 404


def test_a_link_dies_with_what_it_leads_to(served: Served) -> None:
    [experiment, other] = make_run(served.context, f"s-{new_ulid()}", ["completed"] * 2)[1]
    for each in (experiment, other):
        keep(served.context, each, b"out/a.txt", b"1")
    run = shared(served, run_id=experiment.run)
    links = [share_of(served, experiment, path) for path in (None, "out", "out/a.txt")]
    for link in (run, *links):
        assert STRANGER.get(link).status_code == 200
    served.context.catalog.begin_delete([experiment.experiment_id])
    for _ in range(2):
        for link in links:
            assert {answer.status_code for answer in all_ways(link)} == {404}
        assert STRANGER.get(f"{run}/{experiment.name}").status_code == 404
        assert names(STRANGER.get(run)) == {f"{experiment.run}/{other.name}/out/a.txt"}
        finish_deletions(served.context)
    assert served.get(f"/v1/shares?run_id={experiment.run}").json()[0]["scope"] == "run"
    assert served.delete(f"/v1/runs/{experiment.run}").status_code == 202
    assert {answer.status_code for answer in all_ways(run)} == {404}


def test_a_file_that_its_run_removed_is_not_there_any_more(served: Served) -> None:
    experiment = some_files(served, "running")
    link, folder = share_of(served, experiment, "out/a.txt"), share_of(served, experiment, "out")
    artifact = served.context.catalog.artifact_at(experiment.experiment_id, b"out/a.txt")
    assert artifact is not None
    served.context.catalog.record_artifacts(
        experiment.experiment_id, [replace(artifact, state=ArtifactState.REMOVED)]
    )
    assert STRANGER.get(link).status_code == STRANGER.get(f"{folder}/a.txt").status_code == 404
    again = keep(served.context, experiment, b"out/a.txt", b"new")
    assert STRANGER.get(link).content == b"new" and again.artifact_id != artifact.artifact_id


def test_opens_are_counted(served: Served) -> None:
    experiment = some_files(served)
    link, begun = share_of(served, experiment, "out"), time.time()
    STRANGER.get(link)
    STRANGER.get(link, headers=PAGE)
    STRANGER.get(f"{link}/a.txt")
    STRANGER.get(f"{link}/a.txt", headers={"range": "bytes=0-1"})
    STRANGER.get(f"{link}/a.txt", headers={"range": "bytes=2-3"})  # goes on with what was opened before
    STRANGER.head(link)
    STRANGER.get(f"{link}/nothing")
    [listed] = served.get(f"/v1/shares?run_id={experiment.run}").json()
    assert listed["opens"] == 4
    share = served.context.catalog.share(listed["share_id"])
    assert share is not None and begun <= (share.last_opened_at or 0) <= time.time()
