"""The user study in a real browser, at the size of a phone; and requests that its server refuses."""

from __future__ import annotations

import functools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from megaportraits.errors import DataError
from megaportraits.evaluation.study.make import make_study
from megaportraits.evaluation.study.plan import ROLES, Question, Study, StudySettings
from megaportraits.evaluation.study.report import report_study
from megaportraits.evaluation.study.votes import Ballot
from megaportraits.web.hosts import Hosts
from megaportraits.web.study import StudyServer, serve_study, study_app
from tests.evaluation.study_files import METHODS, write_pairs
from tests.web.served import served

pytest.importorskip("uvicorn", reason="the study extra is not installed")
testclient = pytest.importorskip("starlette.testclient", reason="the study extra is not installed")
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three methods: each two meet once about motion and once about appearance; 4 gold questions."""
    folder = tmp_path_factory.mktemp("study")
    pairs, methods = write_pairs(folder)
    settings = StudySettings(questions=3, gold=2, per_voter=10, gold_per_voter=4, size=64)
    make_study(folder / "study", pairs, methods, settings)
    return folder / "study"


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """The same without votes."""
    return Path(shutil.copytree(made, tmp_path / "study", ignore=shutil.ignore_patterns("votes*")))


@pytest.fixture
def address(study: Path) -> Iterator[str]:
    """Where the study is served."""
    with served(study_app(study)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium: the system's, or Playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="no browser driver: pip install playwright")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        try:
            started = playwright.chromium.launch(
                executable_path=found, args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
            )
        except api.Error as error:
            pytest.skip(f"no browser: apt install chromium, or playwright install chromium ({error.message[:80]!r})")
        yield started
        started.close()


def phone(browser: Any, address: str) -> Any:
    """A new voter's telephone, with its own cookies."""
    context = browser.new_context(viewport=PHONE, has_touch=True, is_mobile=True, device_scale_factor=2)
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.goto(address)
    return page


def place(page: Any) -> str:
    return str(page.text_content("#count"))


@functools.cache
def addresses(study: Path) -> dict[tuple[str, ...], Question]:
    """Which question the addresses of a reference, a left and a right side belong to; voters cannot know that."""
    content = Study.read(study)
    server = StudyServer(study, content, Ballot(study, content))
    return {tuple(server.address(q, role) for role in ROLES): q for q in content.questions}


def open_question(page: Any, study: Path) -> Question:
    """The question on the page, once it can be answered."""
    page.wait_for_selector("#left:not([disabled])")
    names = [
        page.eval_on_selector(f"{box} video, {box} img", "e => e.src").rpartition("/")[2]
        for box in ("#reference", "#left", "#right")
    ]
    return addresses(study)[tuple(names)]


def at_question(page: Any, number: int) -> None:
    page.locator(f"#count:text-is('{number} / 10')").wait_for()


def until(page: Any, true: str) -> None:
    """The page's own rules forbid `wait_for_function`, which evaluates strings there."""
    end = time.monotonic() + 600
    while not page.evaluate(true):
        assert time.monotonic() < end, true
        time.sleep(0.05)


def answer(page: Any, side: str) -> None:
    number = int(place(page).partition(" ")[0])
    page.tap(f"#{side}")
    at_question(page, number + 1)


def vote_through(page: Any, study: Path, *, attentive: bool) -> None:
    """Answer everything: good before fair before poor; who is not attentive takes what gold questions do not show."""
    while page.is_hidden("#thanks"):
        triplet = open_question(page, study).triplet
        if triplet.gold is not None:
            side = triplet.gold if attentive else {"left": "right", "right": "left"}[triplet.gold]
        else:
            side = "left" if METHODS.index(triplet.left) < METHODS.index(triplet.right) else "right"
        if place(page) == "10 / 10":
            page.tap(f"#{side}")
            page.wait_for_selector("#thanks:not([hidden])")
        else:
            answer(page, side)


def test_a_study_of_three_methods_is_voted_through_on_a_phone(browser: Any, address: str, study: Path) -> None:
    careful, careless = phone(browser, address), phone(browser, address)
    for page in (careful, careless):
        assert "10 questions" in page.text_content("#length")
        page.tap("#start")
    vote_through(careful, study, attentive=True)
    vote_through(careless, study, attentive=False)
    assert "all 10 questions" in careful.text_content("#finished")
    careful.reload()
    careful.wait_for_selector("#thanks:not([hidden])")  # nobody votes twice by coming back
    content = Study.read(study)
    ballot = Ballot(study, content)
    votes = ballot.votes()
    assert len(votes) == 20 and all(v.seconds >= 0.5 for v in votes)
    found = report_study(content, votes, sharing=ballot.shared_addresses())
    assert (found.voters, found.failed, found.sharing) == (2, 1, 1)
    for kind in ("motion", "appearance"):
        shares = found.shares[kind]  # type: ignore[index]
        assert [shares[name].percent for name in METHODS] == pytest.approx([200 / 3, 100 / 3, 0])
        assert found.wins[kind]["good"].percent == 100  # type: ignore[index]


def test_the_page_fits_a_phone_and_its_videos_play(browser: Any, address: str, study: Path) -> None:
    page = phone(browser, address)
    page.tap("#start")
    kinds = set()
    while len(kinds) < 2:
        question = open_question(page, study)
        kinds.add(question.triplet.kind)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        for box in ("#prompt", "#reference", "#left", "#right", "#replay"):
            if page.is_visible(box):
                at = page.locator(box).bounding_box()
                assert at["x"] >= 0 and at["x"] + at["width"] <= PHONE["width"], box
                assert at["y"] >= 0 and at["y"] + at["height"] <= PHONE["height"], box
        assert page.locator("#left").bounding_box()["width"] > 150
        if page.locator("#ask video").count():
            until(page, "[...document.querySelectorAll('#ask video')].every(v => v.videoWidth === 64)")
            until(page, "[...document.querySelectorAll('#ask video')].some(v => v.currentTime > 0.1)")
        answer(page, "left")


def test_reloading_and_second_tabs_stay_at_the_same_question_and_count_once(
    browser: Any, address: str, study: Path
) -> None:
    page = phone(browser, address)
    page.tap("#start")
    open_question(page, study)
    answer(page, "left")
    second = open_question(page, study)
    page.reload()  # goes on without the welcome
    assert open_question(page, study) == second and place(page) == "2 / 10"
    tab = page.context.new_page()
    tab.goto(address)
    assert open_question(tab, study) == second
    page.evaluate("document.querySelector('#left').click(); document.querySelector('#left').click()")
    at_question(page, 3)
    tab.tap("#right")  # answered already: the tab is taken to where the voter is
    at_question(tab, 3)
    votes = Ballot(study, Study.read(study)).votes()
    assert len(votes) == 2 and [v.choice for v in votes if v.question == second.id] == ["left"]


def test_a_lost_connection_is_reported_and_the_answer_sent_again(browser: Any, address: str, study: Path) -> None:
    page = phone(browser, address)
    page.tap("#start")
    open_question(page, study)
    page.route("**/api/vote", lambda route: route.abort())
    page.tap("#right")
    page.wait_for_selector("#trouble:not([hidden])")
    page.unroute("**/api/vote")
    page.tap("#again")
    at_question(page, 2)
    assert page.is_hidden("#trouble")
    assert [v.choice for v in Ballot(study, Study.read(study)).votes()] == ["right"]


def test_what_does_not_play_can_be_skipped_and_is_no_vote(browser: Any, address: str, study: Path) -> None:
    for path in (study / "media").iterdir():
        path.write_bytes(b"damaged")
    page = phone(browser, address)
    page.tap("#start")
    page.tap("#skip")
    at_question(page, 2)
    assert [v.choice for v in Ballot(study, Study.read(study)).votes()] == ["broken"]


def test_nothing_that_is_served_names_a_method_or_tells_gold(study: Path) -> None:
    client = testclient.TestClient(study_app(study), base_url="http://localhost")
    told = client.get("/").text + client.get("/api/state").text
    assert not [word for word in (*METHODS, "gold") if word in told]
    assert set(client.get("/api/state").json()["question"]) == {"id", "kind", "reference", "left", "right"}
    assert client.get("/media/../study.json").status_code == 404
    assert client.get("/media/%2e%2e/votes.sqlite").status_code == 404
    video = next(name for names in addresses(study) for name in names if name.endswith(".mp4"))
    part = client.get(f"/media/{video}", headers={"Range": "bytes=0-99"})
    assert part.status_code == 206 and len(part.content) == 100  # as iPhones ask


def test_no_address_header_or_length_tells_which_side_is_the_reference_itself(study: Path) -> None:
    client = testclient.TestClient(study_app(study), base_url="http://localhost")
    names = [name for triple in addresses(study) for name in triple]
    assert len(set(names)) == len(names) == 3 * len(Study.read(study).questions)
    gold = [triple for triple, question in addresses(study).items() if question.triplet.gold is not None]
    assert len(gold) == 4
    ids = {question.id for question in addresses(study).values()}  # anybody who knows names and seed can compute these
    assert client.get("/api/state").json()["question"]["id"] not in ids
    for triple in gold:
        answers = [client.get(f"/media/{name}") for name in triple]
        assert [answer.status_code for answer in answers] == [200] * 3
        for told in ("etag", "content-length"):
            assert len({answer.headers[told] for answer in answers}) == 3, told
        assert len({answer.headers["last-modified"] for answer in answers}) == 1
    stored = Study.read(study).questions[0].reference
    assert client.get(f"/media/{stored}").status_code == 404


def test_studies_whose_gold_sides_share_a_file_do_not_show_it_by_addresses(study: Path) -> None:
    """As earlier versions made them."""
    content = json.loads((study / "study.json").read_text())
    for question in content["questions"]:
        if (side := question["triplet"]["gold"]) is not None:
            question["reference"] = question[side]
    (study / "study.json").write_text(json.dumps(content))
    client = testclient.TestClient(study_app(study), base_url="http://localhost")
    for triple in addresses(study):
        told = [client.get(f"/media/{name}").headers for name in triple]
        assert len(set(triple)) == len({headers["etag"] for headers in told}) == 3
        assert len({headers["last-modified"] for headers in told}) == 1


def test_answers_that_are_none_are_refused(study: Path, caplog: pytest.LogCaptureFixture) -> None:
    client = testclient.TestClient(study_app(study), base_url="http://localhost")
    assert client.post("/api/vote", json={"question": "x", "choice": "left", "seconds": 1}).status_code == 403
    question = client.get("/api/state").json()["question"]["id"]
    right = {"question": question, "choice": "left", "seconds": -5}
    wrong = [
        *(right | {"choice": choice} for choice in ("both", None, 1, [], {}, ["left"], "LEFT", True)),
        *(right | {"seconds": seconds} for seconds in ("soon", "1", None, True, [], {}, 10**400, float("inf"))),
        *(right | {"question": other} for other in (5, None, [], {}, "x" * 65, True)),
        right | {"seconds": float("nan")},
        right | {"more": 1},
        {"question": question, "choice": "left"},
        *([], {}, [question], "text", 1, None, True),
    ]
    bodies = [json.dumps(one).encode() for one in wrong]
    bodies += [b"", b"{", b"\xff\xfe", b"null" * 400, b"[" * 1999, b'{"a":' * 300, b"1" * 1999, b"\0" * 100]
    bodies += [json.dumps(right | {"question": "x" * 5000}).encode(), json.dumps(right).encode() + b" " * 3000]
    bodies += [json.dumps(right).encode("utf-16"), b'{"question": "\\ud800", "choice": "left", "seconds": 1}']
    told = {body: client.post("/api/vote", content=body) for body in bodies}
    assert {answer.status_code for answer in told.values()} == {400}, {b: a.status_code for b, a in told.items()}
    assert client.post("/api/vote", content=iter([b"x" * 1500] * 3)).status_code == 400  # in chunks
    assert client.post("/api/vote", data={"question": question}, files={"a": b"b"}).status_code == 400
    assert client.post("/api/vote", json=right | {"question": "unknown"}).status_code == 409
    for cookie in ("", "x" * 3000, "\u00e9;;", '"\\000"', "' OR 1=1 --"):
        jar = {"Cookie": f"voter={cookie}".encode("latin-1")}
        stranger = testclient.TestClient(study_app(study), base_url="http://localhost")
        assert stranger.post("/api/vote", json=right, headers=jar).status_code == 403, cookie
    assert not caplog.records
    assert [client.post("/api/vote", json=right).status_code for _ in range(2)] == [200, 409]
    assert [v.seconds for v in Ballot(study, Study.read(study)).votes()] == [0]


def test_foreign_pages_and_names_get_nothing_of_a_study(study: Path) -> None:
    client = testclient.TestClient(study_app(study, Hosts.of(also=["study.example.org"])), base_url="http://localhost")
    for path in ("/", "/api/state"):
        for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
            answer = client.get(path, headers=headers)
            assert answer.status_code == 403 and not answer.cookies
        assert client.get(path, headers={"Host": "study.example.org"}).status_code == 200
    assert client.get("/openapi.json").status_code == 404
    assert client.get("/").headers["x-content-type-options"] == "nosniff"


def test_a_ballot_that_breaks_while_it_is_served_is_one_line_in_the_log(study: Path, caplog: Any) -> None:
    client = testclient.TestClient(study_app(study), base_url="http://localhost")
    client.get("/api/state")
    (study / "votes.sqlite").write_bytes(b"broken" * 1000)
    answer = client.get("/api/state")
    assert answer.status_code == 500 and "sqlite" not in answer.text
    (record,) = caplog.records
    assert "votes.sqlite holds no votes" in record.getMessage() and record.exc_info is None


def test_a_study_that_lacks_files_is_reported_before_it_is_served(study: Path) -> None:
    next((study / "media").iterdir()).unlink()
    with pytest.raises(DataError, match="lacks 1 files of its questions"):
        study_app(study)


def test_with_invitations_only_the_invited_get_in(study: Path) -> None:
    (code,) = Ballot(study, Study.read(study)).invite(1)
    client = testclient.TestClient(study_app(study), base_url="http://localhost")
    assert client.get("/api/state").status_code == 403
    assert client.get("/api/state?invite=guess").json() == {"error": "invite"}
    assert client.get(f"/api/state?invite={code}").json()["total"] == 10
    elsewhere = testclient.TestClient(study_app(study), base_url="http://localhost").get(f"/api/state?invite={code}")
    assert elsewhere.json()["question"] == client.get("/api/state").json()["question"]


def test_a_port_that_is_taken_is_reported(study: Path, address: str) -> None:
    with pytest.raises(DataError, match=r"of 127\.0\.0\.1 is in use"):
        serve_study(study, hosts=Hosts.of(), port=int(address.rpartition(":")[2]), ready=print)
