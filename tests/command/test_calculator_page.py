"""The calculator's page in Chromium, as a static server gives it, with every other address out of reach."""

import contextlib
import io
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import chromium
import pytest
from clone import REPOSITORY

from footprint.command import main as cli
from footprint.command.arguments import AXES
from footprint.command.calculator.question import ADAPTERS
from footprint.spec.cards import catalogue
from footprint.spec.model import TARGETS

REQUIRED = os.environ.get("FOOTPRINT_REQUIRE_NODE") == "1"

pytestmark = [
    pytest.mark.slow,
    chromium.needs_chromium,
    pytest.mark.skipif(
        not (shutil.which("npm") and shutil.which("node")) and not REQUIRED,
        reason="no npm here, which brings Pyodide; on Debian: apt-get install npm",
    ),
]

MOST_BYTES = 15 * 2**20
ANSWER = """new Promise((resolve) => {
  const take = ({data}) => {
    if (data.kind === "failed") return resolve(`failed: ${data.why}`);
    if (data.number !== number || data.kind !== "part") return;
    if (!["prediction", "mistake"].includes(data.answer.part)) return;
    worker.removeEventListener("message", take);
    resolve(data.answer.json ?? data.answer.sentence);
  };
  worker.addEventListener("message", take);
  ACTION;
})"""
"""Does something in the page and waits for the answer: what `--json` prints, or a sentence."""

DROP = """(() => {
  const data = new DataTransfer();
  data.items.add(new File([CONTENT], "config.json"));
  dispatchEvent(new DragEvent("drop", {dataTransfer: data}));
})()"""


class Quiet(SimpleHTTPRequestHandler):
    """Serves files as `python -m http.server` does, without a log."""

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("calculator") / "site"
    command = [sys.executable, "scripts/site.py", "--output", output]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


class Page:
    """The page in a tab."""

    def __init__(self, address: str, tab: chromium.Tab, runner) -> None:
        self.address, self.tab, self._run = address, tab, runner.run

    def open(self, state: str = "", *, width: int = 1440, scheme: str = "light") -> None:
        self._run(self.tab.open("about:blank", width=width, scheme=scheme))
        self._run(self.tab.open(self.address + state, width=width, scheme=scheme))
        self.wait("!document.getElementById('headline').textContent.endsWith('…')")

    def see(self, script: str) -> object:
        return self._run(self.tab.evaluate(script))

    def wait(self, condition: str) -> None:
        """Wait in the page until a condition holds."""
        self.see(
            "new Promise((resolve) => {"
            f"const look = () => (({condition}) ? resolve() : setTimeout(look, 10)); look(); }})"
        )

    def press(self, *keys: str) -> None:
        for key in keys:
            self._run(self.tab.press(key))

    def write_into(self, name: str, text: str) -> None:
        """Replace what stands in a field, as a person does."""
        self.see(f"form.elements[{name!r}].select()")
        self._run(self.tab.write(text))

    def text(self, place: str) -> str:
        return self.see(f"document.getElementById({place!r}).innerText")

    def answer_to(self, action: str) -> str:
        return self.see(ANSWER.replace("ACTION", action))

    def asked(self, state: dict[str, str]) -> str:
        return self.answer_to(f"fill({json.dumps(state)}); ask()")

    def hear_workers(self) -> None:
        self._run(self.tab.hear_workers())

    def forget(self) -> None:
        """As if the page had never been visited."""
        self._run(self.tab.command("Network.clearBrowserCache"))

    @contextlib.contextmanager
    def ahead(self, script: str) -> Iterator[None]:
        """Inside, a script runs in every page before its own."""
        added = self._run(self.tab.command("Page.addScriptToEvaluateOnNewDocument", source=script))
        yield
        self._run(self.tab.command("Page.removeScriptToEvaluateOnNewDocument", **added))


@pytest.fixture(scope="module")
def page(site, tmp_path_factory) -> Iterator[Page]:
    profile = tmp_path_factory.mktemp("profile")
    with served(site) as address, chromium.tab(profile) as (tab, runner):
        yield Page(address, tab, runner)


@pytest.fixture
def opened(page) -> Page:
    page.open()
    return page


def printed(state: dict[str, str]) -> str:
    """What `footprint predict --json` prints for a state, or the sentence that it ends with."""
    words = [word for name, value in state.items() for word in (f"--{name}", value)]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.suppress(SystemExit):
        cli.main(["predict", *words, "--json"])
    return out.getvalue().removesuffix("\n") or err.getvalue().removeprefix("error: ").removesuffix("\n")


def drawn(generator: random.Random) -> dict[str, str]:
    """Random settings that apply, on the CPU or a card; some exist on neither."""
    models = ("minigpt-85m", "minigpt-3m", "minillama-3m", "gpt2-124m", "tinyllama-1.1b")
    state = {"model": generator.choice(models)}
    for axis, (_, allowed) in AXES.items():
        state[axis] = generator.choice(allowed) if not isinstance(allowed, str) else ""
    state |= {"rank": str(generator.randint(1, 64)), "targets": generator.choice((*TARGETS, "gate+up", "down"))}
    gpus = generator.choice((1, 1, 2, 4))
    state |= {"gpus": str(gpus), "sharding": generator.choice(("ddp", "fsdp"))}
    state |= {"batch": str(gpus * generator.randint(1, 4)), "seq": str(generator.randint(1, 256))}
    if generator.random() < 0.6:
        state["card"] = generator.choice(list(catalogue()))
    elif generator.random() < 0.5:
        state["gpu-memory"] = f"{generator.randint(1, 80)}GiB"
    return {name: value for name, value in state.items() if state["regime"] != "full" or name not in ADAPTERS}


# --- the numbers -----------------------------------------------------------------------------------------------------


def test_three_hundred_random_settings_equal_the_command_line_to_the_byte(opened):
    generator = random.Random(19)
    mistakes = 0
    for _ in range(300):
        state = drawn(generator)
        expected = printed(state)
        assert opened.asked(state) == expected, state
        mistakes += not expected.startswith("{")
    assert mistakes < 100


def test_a_model_of_seventy_billion_and_a_custom_one_equal_a_process_of_their_own(opened):
    sizes = {
        "layers": "2",
        "width": "64",
        "heads": "4",
        "vocab": "96",
        "context": "64",
        "block": "llama",
        "norm": "layer",
    }
    for state in (
        {"model": "llama-70b", "regime": "qlora", "checkpointing": "block", "seq": "1024", "card": "h100-80gb"},
        {"model": "custom", "regime": "full", "seq": "64", "gpu-memory": "1GiB", **sizes},
    ):
        found = opened.asked(state)
        program, *words = shlex.split(opened.text("command"))
        assert program == "footprint"
        run = "import sys; from footprint.command.main import main; sys.exit(main(sys.argv[1:]))"
        done = subprocess.run(
            [sys.executable, "-c", run, *words, "--json"], capture_output=True, text=True, check=False
        )
        assert found + "\n" == done.stdout


# --- the network -----------------------------------------------------------------------------------------------------


def test_nothing_is_asked_of_another_place_and_nothing_is_complained_of(page):
    """By the page and by its worker, which loads most of it."""
    page.hear_workers()
    page.forget()
    page.open()
    page.wait("document.getElementById('working').textContent === ''")
    asked = page.tab.requests()
    assert all(address.startswith((page.address, f"blob:{page.address}")) for address in asked)
    assert {"memory.gz", "footprint.zip", "page.js"} <= {address.rsplit("/", 1)[-1] for address in asked}
    assert page.tab.complaints() == []


def test_the_policy_keeps_the_page_and_its_worker_from_other_places(opened, site):
    with served(site) as elsewhere:
        fetched = "fetch({}).then(() => 'fetched', () => 'refused')"
        assert opened.see(fetched.format(repr(elsewhere))) == "refused"
        program = f"{fetched.format(repr(elsewhere))}.then(postMessage)"
        worker = f"new Worker(URL.createObjectURL(new Blob([{program!r}], {{type: 'text/javascript'}})))"
        assert opened.see(f"new Promise((resolve) => {worker}.onmessage = (event) => resolve(event.data))") == "refused"
    inline = "Object.assign(document.createElement('script'), {textContent: 'window.ran = true'})"
    assert opened.see(f"document.body.append({inline}), window.ran === undefined")


def test_the_site_is_small_and_no_placeholder_is_left(site):
    assert sum(path.stat().st_size for path in site.rglob("*") if path.is_file()) <= MOST_BYTES
    assert "$" not in (site / "index.html").read_text(encoding="utf-8")


# --- the page --------------------------------------------------------------------------------------------------------


def test_an_answer_can_be_sent_as_a_link_and_gone_back_to(opened):
    state = {"model": "minigpt-85m", "regime": "lora", "batch": "4", "seq": "256"}
    before = opened.text("command")
    opened.answer_to(
        f"fill({json.dumps(state)}); form.elements.seq.dispatchEvent(new Event('change', {{bubbles: true}}))"
    )
    shown, link = opened.text("headline"), opened.see("location.hash")
    opened.answer_to("history.back()")
    assert opened.text("command") == before
    opened.open(link)
    assert opened.text("headline") == shown
    assert "--model minigpt-85m" in opened.text("command")


def test_every_step_of_a_person_is_one_step_back(opened):
    """Typing is one step, and so is every choice; back and back again, all that stood there stands there again."""
    states = [opened.see("state()")]
    opened.write_into("seq", "512")
    opened.press("Tab")
    states.append(opened.see("state()"))
    opened.see("form.elements.regime.focus()")
    for _ in range(2):
        opened.press("ArrowUp")
        states.append(opened.see("state()"))
    assert [state["seq"] for state in states] == ["2048", "512", "512", "512"]
    assert len({state["regime"] for state in states}) > 1
    shown = list(dict.fromkeys(json.dumps(state) for state in states))
    for state in reversed(shown[:-1]):
        opened.answer_to("history.back()")
        assert json.dumps(opened.see("state()")) == state


@pytest.mark.parametrize("width", [1440, 390])
def test_the_answer_can_be_skipped_to_without_losing_the_question(page, width):
    page.open(width=width)
    before, command = page.see("location.hash"), page.text("command")
    page.see("document.getElementById('skip').focus()")
    page.press("Enter")
    assert page.see("document.activeElement.id") == "headline"
    page.see("location.hash = '#h-cards'")
    page.wait("location.hash === '#h-cards'")
    assert page.text("command") == command
    assert page.see("state().regime") == "qlora"
    page.open(before)
    assert page.text("command") == command


def test_what_a_link_leaves_out_stands_in_the_form_as_the_command_line_takes_it(page):
    page.open("#model=minigpt-85m&regime=lora")
    assert json.loads(printed({"model": "minigpt-85m", "regime": "lora"}))["seq"] == 256
    assert page.see("[form.elements.seq.value, form.elements.rank.value]") == ["256", "8"]
    assert "batch 4 x 256" in page.text("run")


def test_sizes_of_ones_own_begin_with_those_of_the_model_before(opened):
    before = json.loads(opened.answer_to("ask()"))
    row = json.loads(
        opened.answer_to(
            "form.elements.model.value = 'custom';"
            "form.elements.model.dispatchEvent(new Event('change', {bubbles: true}))"
        )
    )
    assert row["model"] == "custom"
    assert row["peak_bytes"] == before["peak_bytes"]


@pytest.mark.parametrize(
    ("name", "value", "follows", "becomes"),
    [("model", "gpt2-124m", "seq", 1024), ("gpus", "8", "batch", 8), ("gpus", "3", "batch", 6)],
)
def test_what_has_to_follow_a_change_does(opened, name, value, follows, becomes):
    """Learned positions end, and GPUs share a batch; at first there are 4 sequences of 2048 tokens."""
    field = f"form.elements[{name!r}]"
    chosen = f"{field}.value = {value!r}; {field}.dispatchEvent(new Event('change', {{bubbles: true}}))"
    row = json.loads(opened.answer_to(chosen))
    assert row[follows] == becomes
    assert opened.see(f"form.elements[{follows!r}].value") == str(becomes)


def test_the_latest_of_quick_changes_is_answered(opened):
    typed = "; ".join(
        f"form.elements.seq.value = '{value}'; form.elements.seq.dispatchEvent(new Event('input', {{bubbles: true}}))"
        for value in ("1", "12", "12x", "128")
    )
    assert json.loads(opened.answer_to(typed))["seq"] == 128
    opened.wait("document.getElementById('cards').querySelectorAll('li').length > 0")
    assert "seq 128" not in opened.text("headline")
    assert "batch 4 x 128" in opened.text("run")


def test_taking_the_cheapest_change_makes_it_fit(opened):
    opened.wait("!document.getElementById('cheapest').hidden")
    opened.answer_to("document.querySelector('#cheapest button').click()")
    assert "It fits" in opened.text("headline")
    assert "--checkpointing block" in opened.text("command")


def test_a_dropped_config_fills_in_the_sizes(opened):
    told = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 64, "num_attention_heads": 4}
    told |= {"intermediate_size": 176, "vocab_size": 96, "max_position_embeddings": 4096}
    row = json.loads(opened.answer_to(DROP.replace("CONTENT", repr(json.dumps(told)))))
    assert (row["model"], row["seq"]) == ("custom", 2048)
    assert opened.see("form.elements.mlp_width.value") == "176"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("'{'", "config.json: is not JSON"),
        ('\'{"model_type": "mamba"}\'', "config.json: model_type: 'mamba' is not allowed"),
        ("new Uint8Array(1e7)", "config.json: is larger than 1 MiB"),
        (
            '\'{"a":\' + "[".repeat(3000) + "]".repeat(3000) + "}"',
            "config.json: is not JSON (more than 100 levels deep)",
        ),
    ],
)
def test_a_wrong_config_is_answered_in_the_command_lines_words_and_changes_nothing(opened, content, said):
    before = opened.text("command")
    opened.see(DROP.replace("CONTENT", content))
    opened.wait("!document.getElementById('config-mistake').hidden")
    assert opened.text("config-mistake").startswith(said)
    assert opened.text("command") == before


def test_a_mistake_is_one_sentence_and_the_next_answer_takes_its_place(opened):
    sentence = opened.asked({"model": "minigpt-85m", "regime": "lora", "rank": "0"})
    assert sentence == "rank: 0 is not allowed; use a whole number from 1 to 65536"
    assert opened.text("mistake") == sentence
    opened.asked({"model": "minigpt-85m", "regime": "lora", "rank": "1"})
    assert opened.see("document.getElementById('mistake').hidden")


def test_everything_that_can_be_operated_has_a_name_and_follows_the_keyboard(opened):
    opened.wait("document.getElementById('working').textContent === ''")
    nameless = """[...document.querySelectorAll('input, select, button, a, summary')].filter((element) => !(
      element.labels?.[0]?.innerText || element.innerText || element.getAttribute('aria-label') || '').trim()).length"""
    assert opened.see(nameless) == 0
    assert opened.see("document.querySelectorAll('[tabindex]:not([tabindex=\"-1\"])').length") == 0
    assert opened.see("document.querySelectorAll('table').length") == opened.see(
        "document.querySelectorAll('caption').length"
    )
    assert opened.see("document.getElementById('headline').getAttribute('role')") == "status"
    assert opened.see("document.querySelectorAll('h1').length") == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_the_page_is_as_wide_as_the_window(page, width, scheme):
    page.open(width=width, scheme=scheme)
    page.wait("document.getElementById('working').textContent === ''")
    assert page.see("document.documentElement.scrollWidth") <= width
    assert page.tab.complaints() == []


def test_a_browser_without_webassembly_is_told_so(page):
    with page.ahead("delete WebAssembly"):
        page.open()
    assert "no WebAssembly" in page.text("headline")
    assert "footprint predict" in page.text("loading")


def test_a_file_that_is_missing_is_named(page, site):
    (memory,) = site.rglob("memory.gz")
    elsewhere = memory.rename(site / "elsewhere")
    page.forget()
    page.open()
    elsewhere.rename(memory)
    assert "could not start: memory.gz cannot be loaded (404)" in page.text("headline")
