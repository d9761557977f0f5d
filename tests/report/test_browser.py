"""The page in a browser: a headless Chromium, driven by playwright."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnjax.report.contents import report_of
from cnnjax.report.page import write_page
from tests.report.folders import append_steps, finish, write_layers, write_run, write_samples

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium here"),
]
STUDIES = ("degradation", "gradient_norms", "shattered_gradients")


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The report of two families of two seeds; one network has probes."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    for model in ("plain20", "resnet20"):
        for seed in range(2):
            write_run(folder / f"{model}_seed{seed}", model, seed)
    write_layers(folder / "plain20_seed0", depth=20)
    write_samples(folder / "plain20_seed0")
    write_page(folder / "report.html", report_of([folder]))
    return folder / "report.html"


@pytest.fixture(scope="module", params=STUDIES)
def study(request, tmp_path_factory):
    """The report of an experiment that was run."""
    out = tmp_path_factory.mktemp("study") / request.param
    command = [sys.executable, "-m", f"experiments.{request.param}", "--preset", "smoke", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    return out / "report.html"


class Seen:
    """A page that is open, and what it has said and asked for."""

    def __init__(self, browser, address, width=1280, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, accept_downloads=True
        )
        self.page = self.context.new_page()
        self.errors, self.requests = [], []
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda asked: self.requests.append(asked.url))
        self.page.goto(address)
        self.page.wait_for_selector(".js-plotly-plot .main-svg")

    def traces(self, section="#curves", number=0):
        """The visible lines of a chart, by name."""
        return self.page.evaluate(
            """([section, number]) => document.querySelectorAll(section + " .plot")[number].data
               .filter((one) => one.name && (one.visible ?? true) === true && one.x?.[0] !== null)
               .map((one) => [one.name, one.y])""",
            [section, number],
        )

    def axis(self, name="yaxis", section="#curves"):
        return self.page.evaluate(
            "([section, name]) => document.querySelector(section + ' .plot')._fullLayout[name].type",
            [section, name],
        )

    def close(self):
        """Whatever was done, nothing failed, and nothing but the page itself was asked for."""
        assert self.errors == []
        assert [url for url in self.requests if not url.startswith(("file:", "blob:", "data:"))] == []
        self.context.close()


@pytest.fixture
def seen(browser, runs):
    opened = Seen(browser, runs.as_uri())
    yield opened
    opened.close()


def test_the_studies_are_drawn(browser, study):
    assert study.stat().st_size < 5e6
    opened = Seen(browser, study.as_uri())
    lines = opened.page.evaluate(
        "[...document.querySelectorAll('.plot')].map((one) => one.querySelectorAll('.main-svg').length)"
    )
    assert lines
    assert all(lines)
    assert opened.page.locator("#findings-1 table tbody tr").count() > 0
    opened.close()
    for scheme in ("light", "dark"):
        narrow = Seen(browser, study.as_uri(), width=390, scheme=scheme)
        assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert narrow.page.evaluate("document.documentElement.dataset.theme") == scheme
        narrow.close()


def test_hover_shows_values(seen):
    plot = seen.page.locator("#curves .plot").first
    plot.scroll_into_view_if_needed()
    box = plot.locator(".nsewdrag").first.bounding_box()
    seen.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    seen.page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    said = plot.locator(".hoverlayer .legend")
    said.wait_for()
    assert "plain20, training" in said.text_content()
    assert "±" in said.text_content()


def test_families_are_switched_by_key_and_by_the_legend(seen):
    assert {name.split(",")[0] for name, _ in seen.traces()} == {"plain20", "resnet20"}
    box = seen.page.get_by_role("checkbox", name="plain20")
    box.focus()
    seen.page.keyboard.press("Space")
    assert {name.split(",")[0] for name, _ in seen.traces()} == {"resnet20"}
    seen.page.keyboard.press("Space")
    seen.page.locator("#curves .plot .legendtoggle").first.click()
    playwright.expect(box).not_to_be_checked()
    assert {name.split(",")[0] for name, _ in seen.traces()} == {"resnet20"}


def test_axes_seeds_and_smoothing(seen):
    assert (seen.axis(), seen.axis("xaxis")) == ("linear", "linear")
    for name in ("Logarithmic values", "Logarithmic steps"):
        seen.page.locator("#curves").get_by_role("checkbox", name=name).check()
    assert (seen.axis(), seen.axis("xaxis")) == ("log", "log")
    before = dict(seen.traces())
    assert set(before) >= {"plain20, training", "plain20, test"}
    seen.page.locator("#curves").get_by_label("Seeds").select_option(label="one line each")
    lines = dict(seen.traces())
    assert "plain20, training, seed 1" in lines
    slider = seen.page.get_by_label("Smoothing")
    slider.focus()
    seen.page.keyboard.press("Home")
    rough = dict(seen.traces())
    assert rough["plain20, test, seed 0"] == lines["plain20, test, seed 0"]
    assert rough["plain20, training, seed 0"] != lines["plain20, training, seed 0"]
    assert rough["plain20, training, seed 0"][0] == lines["plain20, training, seed 0"][0]


def test_the_step_slider_and_the_layers_table(seen):
    slider = seen.page.locator("#layers").get_by_role("slider", name="Step")
    first = seen.traces("#layers", 1)[0][1]
    slider.focus()
    seen.page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "1"
    second = seen.traces("#layers", 1)[0][1]
    assert first[0] == pytest.approx(1.2**19, rel=1e-3)
    assert second[0] == pytest.approx(1.2**9.5, rel=1e-3)
    head = seen.page.locator("#layers th", has_text="weight gradient norm").last
    head.get_by_role("button").focus()
    for order, layer in (("ascending", "stage3_conv19"), ("descending", "stage1_conv0")):
        seen.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        assert seen.page.locator("#layers details[open] tbody th").first.text_content() == layer


def test_data_can_be_had(seen):
    with seen.page.expect_download() as waiting:
        seen.page.get_by_role("button", name="Download the data of: Loss").click()
    lines = Path(waiting.value.path()).read_text().splitlines()
    assert lines[0] == "network,seed,of,step,loss"
    assert len(lines) == 1 + 4 * (40 + 4)
    seen.page.locator("#curves summary", has_text="Show as a table").first.click()
    rows = seen.page.locator("#curves .card").first.locator("tbody tr")
    rows.first.wait_for()  # a table is made once its place is open
    assert rows.count() == 4 * 44


def test_families_are_compared_over_their_seeds(seen):
    rows = seen.page.locator("#compared table").first.locator("tbody tr")
    assert [name.split()[0] for name in rows.locator("th").all_text_contents()] == ["plain20", "resnet20"]
    assert "less that of plain20" in seen.page.locator("#compared h3").text_content()
    chart = seen.page.locator("#compared .plot")
    data = chart.evaluate("(plot) => plot.data.map((one) => [one.name, one.x[0], one.error_x.array[0]])")
    ((name, mean, half),) = data
    assert name == "resnet20"
    cells = rows.last.locator("td").all_text_contents()
    assert f"{mean:+.2f}" in cells
    assert f"{mean - half:+.2f} to {mean + half:+.2f}" in cells
    low, high = chart.evaluate("(plot) => plot._fullLayout.xaxis.range")
    assert low < mean < 0 <= high  # no difference is in sight, too
    assert "2 pairs are few" in seen.page.locator("#compared ul").text_content()


def test_a_comparison_is_stacked_where_it_is_narrow(browser, runs):
    narrow = Seen(browser, runs.as_uri(), width=390)
    box = narrow.page.locator("#compared .scroll").first
    assert box.evaluate("(one) => one.scrollWidth <= one.clientWidth")  # nothing to scroll
    assert narrow.page.evaluate("document.documentElement.scrollWidth") <= 390
    label = "(one) => getComputedStyle(one, '::before').content"
    assert box.locator("tbody tr").last.locator("td").last.evaluate(label) == '"p"'
    tops = [one["y"] for one in (cell.bounding_box() for cell in box.locator("tr").last.locator("td").all())]
    assert tops == sorted(set(tops))
    narrow.close()


def test_the_theme_is_switched(seen):
    back = "getComputedStyle(document.body).backgroundColor"
    light = seen.page.evaluate(back)
    seen.page.get_by_role("button", name="Dark").click()
    assert seen.page.evaluate(back) != light
    assert seen.page.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, runs, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    opened = Seen(browser, runs.as_uri(), scheme=scheme)
    found = axe.run(opened.page).response["violations"]
    grave = [one for one in found if one["impact"] in ("serious", "critical")]
    assert grave == [], [(one["id"], [node["html"][:200] for node in one["nodes"][:3]]) for one in grave]
    opened.context.close()


@pytest.fixture
def watched(tmp_path):
    """A folder, and the address of the page that follows it."""
    command = [sys.executable, "-m", "cnnjax", "watch", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        address = server.stdout.readline().split()[-1]
        yield tmp_path, address
        server.send_signal(signal.SIGINT)
        assert server.wait(20) in (0, 130)  # 0 where whoever started the tests ignores the signal
        assert server.stderr.read() in ("", "cnnjax: stopped\n")


def state(page, words):
    """Wait until the table of runs says so."""
    page.locator("#runs tbody", has_text=words).wait_for()


def test_watching_follows_without_reloading(browser, watched):
    folder, address = watched
    page = browser.new_page()
    page.goto(address)
    page.locator("h1", has_text="No runs yet").wait_for()
    page.evaluate("window.same = true")
    run = write_run(folder / "a", "plain20", done=12)
    state(page, "step 12 of 40")
    page.locator("#curves").get_by_role("checkbox", name="Logarithmic values").check()
    page.evaluate("Plotly.relayout(document.querySelector('#curves .plot'), {'xaxis.range': [2, 9]})")
    whole = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(whole + '{"step": 13, "train_')  # killed
    write_run(folder / "b", "resnet20", done=3)
    state(page, "step 3 of 40")
    new = run / "metrics.new"
    new.write_text("".join(whole.splitlines(keepends=True)[:8]))  # resumed from step 8
    new.rename(run / "metrics.jsonl")
    append_steps(run, 9, 40)
    finish(run)
    state(page, "finished")
    plot = "document.querySelector('#curves .plot')"
    assert page.evaluate(f"{plot}.layout.xaxis.range") == [2, 9]
    assert page.evaluate(f"{plot}._fullLayout.yaxis.type") == "log"
    assert page.evaluate("window.same")
    page.close()


def test_watching_a_run_that_is_killed_and_resumed(browser, watched):
    folder, address = watched
    out = folder / "net"
    command = [sys.executable, "-m", "cnnjax", "train", "--model", "resnet8", "--options", "width=4"]
    command += ["--data", "synthetic", "--batch-size", "16", "--steps", "400", "--schedule", "constant"]
    command += ["--augment", "none", "--evaluate-every", "100", "--checkpoint-every", "20", "--out", str(out)]
    page = browser.new_page()
    page.goto(address)
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as training:
        metrics = out / "metrics.jsonl"
        while training.poll() is None and not (metrics.exists() and metrics.read_text().count("\n") > 60):
            time.sleep(0.05)
        os.kill(training.pid, signal.SIGKILL)
    state(page, "of 400")
    page.evaluate("window.same = true")
    subprocess.run(command, check=True, capture_output=True)
    state(page, "finished")
    steps = page.evaluate("document.querySelector('#curves .plot').data.at(-1).x")
    assert steps == [100, 200, 300, 400]
    assert page.evaluate("window.same")
    assert (out / "report.html").exists()
    page.close()
