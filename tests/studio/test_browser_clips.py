"""Clips and the live camera in headless Chromium, at the size of a desktop and of a telephone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from chromium_steps import CHROMIUM, SIZES, Opener, problems, until

from drawing import clips as scenes
from scrfd_trt.video import VideoReader

pytest.importorskip("starlette")
pytest.importorskip("av")
pytest.importorskip("playwright")

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]
FRAMES = 30


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of several people and clutter, with a tone."""
    folder = tmp_path_factory.mktemp("clips")
    return scenes.make("street", folder, seconds=FRAMES / 25, size=(640, 360))[0]


@pytest.fixture(params=SIZES)
def page(request: pytest.FixtureRequest, open_page: Opener) -> Any:
    """A page at the size of a desktop or of a telephone."""
    return open_page(request.param)


@pytest.fixture
def clip(page: Any, film: Path) -> Any:
    """The page with a clip that has been searched."""
    page.set_input_files("#file-input", film)
    page.wait_for_selector("#clip:not([hidden]) .lane")
    return page


def show(page: Any, name: str) -> None:
    """Save a picture of the page, where the environment names a folder for it."""
    if folder := os.environ.get("STUDIO_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/clip-{name}-{page.viewport_size['width']}.png")


def timeline(page: Any) -> Any:
    return page.evaluate("studio.clip.api.get(`${studio.clip.path}/timeline`)")


def press(page: Any, key: str) -> None:
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press(key)


def draw(page: Any, box: tuple[float, float, float, float]) -> None:
    """Draw a box in pixels of the clip, with the mouse."""
    page.get_by_role("button", name="Add a missed face").click()
    frame = page.evaluate("(({left, top}) => ({left, top}))(studio.viewer.canvas.getBoundingClientRect())")
    view = page.evaluate("studio.viewer.view")
    corners = [
        (frame["left"] + view["x"] + x * view["scale"], frame["top"] + view["y"] + y * view["scale"])
        for x, y in (box[:2], box[2:])
    ]
    page.mouse.move(*corners[0])
    page.mouse.down()
    page.mouse.move(*corners[1], steps=4)
    page.mouse.up()


def test_clip_is_played_covered_and_stepped(clip: Any) -> None:
    show(clip, "ready")
    clip.get_by_role("button", name="Play", exact=True).click()
    clip.get_by_role("button", name="Pause").wait_for()
    until(clip, "studio.clip.frames > 5")
    until(clip, "!studio.clip.playing")
    assert clip.locator(".clip-time").inner_text() == "0:01.16 / 0:01.20"
    requests: list[str] = []
    clip.on("request", lambda request: requests.append(request.url))
    press(clip, ",")
    until(clip, f"studio.clip.t < {29 / 25 - 0.01}")
    until(clip, "studio.viewer.faces.length > 3")
    assert any("/frame?" in url and "covered=1" in url for url in requests)
    press(clip, ".")
    slider = clip.get_by_role("slider", name="Position in the clip")
    slider.focus()
    clip.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == f"0:00.00, frame 1 of {FRAMES}"
    clip.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuenow") == "1"


def test_people_are_left_visible_split_merged_and_undone(clip: Any) -> None:
    lanes = clip.locator(".lane")
    count, first = lanes.count(), timeline(clip)["tracks"][0]["id"]
    assert count == len(timeline(clip)["tracks"])
    lanes.first.locator(".span").click()
    clip.get_by_role("button", name=f"Person {first} stays visible", pressed=True).wait_for()
    assert timeline(clip)["tracks"][0]["visible"]
    clip.get_by_role("button", name=f"Person {first} stays visible").click()
    until(clip, "!studio.clip.data.tracks[0].visible")
    for _ in range(10):
        press(clip, ".")
    clip.get_by_label(f"Select person {first}", exact=True).check()
    clip.get_by_role("button", name="Split at 0:00.40").click()
    until(clip, f"studio.clip.data.tracks.length === {count + 1}")
    parts = [lane["id"] for lane in timeline(clip)["tracks"] if lane["id"] in (first, count + 1) or lane["id"] > count]
    for part in parts[:2]:
        clip.get_by_label(f"Select person {part}", exact=True).check()
    show(clip, "merge")
    clip.get_by_role("button", name="Merge 2 people").click()
    until(clip, f"studio.clip.data.tracks.length === {count}")
    clip.get_by_role("button", name="Undo").click()
    until(clip, f"studio.clip.data.tracks.length === {count + 1}")
    press(clip, "Control+z")
    until(clip, f"studio.clip.data.tracks.length === {count}")
    clip.get_by_role("button", name="Reset all changes").click()
    until(clip, "!studio.clip.data.tracks.some((lane) => lane.visible && !lane.dropped)")
    both = [lane["id"] for lane in timeline(clip)["tracks"][:2]]
    for track in both:
        clip.get_by_label(f"Select person {track}", exact=True).check()
    clip.get_by_role("button", name="Merge 2 people").click()
    clip.get_by_role("alert").filter(has_text="are two people: both are in the picture").wait_for()


def test_doubts_are_passed_by_keys_and_list(clip: Any) -> None:
    moments = clip.evaluate("studio.clip.timeline.data.moments")
    assert sorted((m["t0"], m["text"]) for m in moments) == sorted(
        (m["t0"], m["text"]) for m in timeline(clip)["moments"]
    )
    press(clip, "l")
    until(clip, "studio.clip.moment === 0")
    assert clip.evaluate("studio.clip.t") == moments[0]["t"]
    assert moments[0]["text"] in clip.locator(".clip-doubt").inner_text()
    press(clip, "l")
    press(clip, "j")
    until(clip, "studio.clip.moment === 0")
    clip.get_by_role("tab", name="Faces").click()
    rows = clip.locator(".moment")
    assert rows.count() == len(moments)
    rows.nth(len(moments) - 1).click()
    until(clip, f"studio.clip.moment === {len(moments) - 1}")
    assert rows.nth(len(moments) - 1).get_attribute("data-seen") is not None
    show(clip, "doubts")


def test_missing_face_is_drawn_at_two_moments(clip: Any) -> None:
    draw(clip, (200, 20, 240, 70))
    clip.locator(".clip-hint").filter(has_text="go to another moment").wait_for()
    for _ in range(10):
        press(clip, ".")
    draw(clip, (240, 20, 280, 70))
    until(clip, "studio.clip.data.covers[0].places.length > 2 || studio.clip.data.covers[0].places.at(-1).t > 0.3")
    show(clip, "drawn")
    faces = clip.evaluate("studio.clip.api.get(studio.clip.api.url(`${studio.clip.path}/frame_faces`, {t: 0.2}))")
    (box,) = [face["box"] for face in faces if face["cover"]]
    assert abs(box[0] - 220) < 3
    assert clip.locator(".lane[data-drawn]").count() == 1
    clip.get_by_role("button", name="Delete drawn face 1").click()
    until(clip, "!studio.clip.data.covers.length")


def test_timeline_zooms_and_scrubs(clip: Any) -> None:
    width = clip.evaluate("studio.clip.timeline.content.offsetWidth")
    clip.get_by_role("button", name="Enlarge the timeline").click()
    assert clip.evaluate("studio.clip.timeline.content.offsetWidth") > 1.2 * width
    clip.get_by_role("button", name="Shrink the timeline").click()
    box = clip.locator(".ruler").bounding_box()
    for share in (0.5, 0.75):  # the second drag must not move selected text
        clip.mouse.move(box["x"] + 5, box["y"] + 10)
        clip.mouse.down()
        clip.mouse.move(box["x"] + box["width"] * share, box["y"] + 10, steps=6)
        clip.mouse.up()
    until(clip, "Math.abs(studio.clip.t - 0.88) < 0.06")
    until(clip, "studio.viewer.faces.length > 3")


def test_screen_readers_and_contrast(clip: Any) -> None:
    clip.locator(".pick input").first.check()
    clip.get_by_role("tab", name="Faces").click()
    assert not problems(clip)


def test_result_is_downloaded_with_sound(clip: Any, tmp_path: Path) -> None:
    clip.locator(".lane-toggle").first.click()
    until(clip, "studio.clip.data.tracks[0].visible")
    clip.get_by_role("tab", name="Result").click()
    with clip.expect_download() as download:
        clip.locator("#download").click()
    assert download.value.suggested_filename == "street_anonymized.mp4"
    download.value.save_as(tmp_path / "a.mp4")
    with VideoReader(tmp_path / "a.mp4", extra_streams=["audio"]) as reader:
        assert (sum(1 for _ in reader), len(reader.extra_streams)) == (FRAMES, 1)
    assert "--detections street.faces.jsonl" in clip.locator("#code-command").inner_text().replace("\\\n", "")


def test_live_camera_starts_stops_and_says_why_not(page: Any, studio: str) -> None:
    page.locator("#start-camera").click()
    page.get_by_role("button", name="Start the camera").click()
    page.locator(".live-message.problem").filter(has_text="was not allowed to use the camera").wait_for()
    page.context.grant_permissions(["camera"], origin=studio)
    page.get_by_role("button", name="Start the camera").click()
    until(page, "studio.live.frames > 1")
    show(page, "live")
    assert page.locator(".live-picture").is_visible()
    assert not problems(page)
    page.get_by_role("button", name="Stop the camera").click()
    page.locator(".live-message").filter(has_text="The camera is off.").wait_for()
    page.get_by_role("button", name="Back").click()
    page.wait_for_selector("#samples button")
