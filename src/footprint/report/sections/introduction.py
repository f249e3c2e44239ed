"""Who the page is for, what was trained, the four numbers of a run, one step drawn, the equations, the words."""

from markupsafe import Markup

from footprint.predict import textbook
from footprint.report.figures import step as step_figure
from footprint.report.page.words import escape
from footprint.report.reading import results
from footprint.report.reading.selection import setting
from footprint.report.sections.material import Material, of_minigpt

NUMBERS = {
    "Measured": "The training steps ran, and a recorder wrote down every allocation and release. A number that is "
    "called rehearsed comes from the same program over a stand-in for a GPU that is not there.",
    "Predicted": "Computed from the shapes alone: what each operation of a step allocates and releases, added up in "
    "order. Nothing in it was fitted to a measurement.",
    "Simulated": "A third count, as a check: PyTorch runs the program on tensors without storage, and their sizes are "
    "added up.",
    "Textbook": f"{textbook.TRAINED} bytes per trained parameter and 2 or {textbook.FROZEN_NF4:g} per frozen one; no "
    "activations.",
}

WORDS = {
    "Full FT, LoRA, QLoRA": "Train every weight; train two thin matrices (an adapter) beside each frozen one; "
    "the same with the frozen ones stored in four bits (NF4).",
    "r, rank": "The inner width of an adapter.",
    "Linears, targets": "The matrices of a block, and which of them carry an adapter: all, those of "
    "attention, or its queries and values (qv).",
    "Checkpoints": "The few activations that forward keeps, from which backward recomputes the rest: none, so that "
    "nothing is recomputed; the input of every block (block); or the input of about √L segments of the L blocks (√L).",
    "Bucket": "What a live byte is: weights (adapters and master copies with them), gradients, optimizer state "
    "(Adam's two moments), or activations, which is everything else.",
    "Mixed, amp, bf16, fp32": "How many bytes weights, gradients and moments have; the table under Method lists them.",
    "Bits per byte": "The loss of predicting text: bits needed for each byte of it; lower is better.",
}

_TEXTBOOK = Markup(
    "<math displaystyle='true' aria-label='{}'><mrow>"
    "<msub><mi>M</mi><mtext>textbook</mtext></msub><mo>=</mo><mn>{}</mn>"
    "<msub><mi>N</mi><mtext>trained</mtext></msub><mo>+</mo><mi>b</mi><msub><mi>N</mi><mtext>frozen</mtext></msub>"
    "</mrow></math>"
)
_PREDICTED = Markup(
    "<math displaystyle='true' aria-label='{}'><mrow><msub><mi>M</mi><mtext>predicted</mtext></msub><mo>=</mo>"
    "<munder><mo>max</mo><mrow><mi>p</mi></mrow></munder><munder><mo>max</mo><mrow><mi>t</mi><mo>∈</mo><mi>p</mi></mrow>"
    "</munder><munder><mo>∑</mo><mrow><mi>x</mi><mtext>&nbsp;live at&nbsp;</mtext><mi>t</mi></mrow></munder>"
    "<mtext>bytes</mtext><mo stretchy='false'>(</mo><mi>x</mi><mo stretchy='false'>)</mo></mrow></math>"
)


@of_minigpt
def introduction(report: Material) -> None:
    """What a stranger needs to know before the first number is compared with another."""
    page = report.page
    page.section("introduction", "What this page is")
    models = " and ".join(escape(model) for model in dict.fromkeys(report.runs["model"]))
    page.say(
        "This page is for everyone who has to decide whether a model can be fine-tuned in the memory there is, and "
        "what to give up if it cannot. A lesson on fine-tuning gives rules of thumb (the <em>textbook</em> of this "
        "page) and a table; here both are held against runs, and against predictions that the runs confirm.",
        "The models are MiniGPTs: small transformers that read bytes, with everything a large "
        f"one has (attention, MLP, norms, adapters on each Linear, NF4, AdamW). The experiment trains {models}. A "
        "small model on a CPU says something about a large one on a GPU, because memory follows from the shapes of "
        "tensors and from the order in which the program makes them and lets them go, and the program is the same. "
        "What differs is the kernels' scratch memory and the allocator's rounding; both are predicted for each card. "
        "Times do not carry over.",
    )
    page.definitions(NUMBERS)
    page.say(
        "A training step has three phases. Forward saves activations; backward uses them up while gradients appear; "
        "the optimizer step needs all gradients at once. What a run needs is the highest instant of the three."
    )
    with page.unless_empty():
        timelines = results.timelines(report.directory, report.runs)
        run, _, origin = step_figure.drawn(timelines)
        page.figure(
            "step",
            step_figure.step(timelines),
            f"One training step of {setting(run)} as {origin}: what is live, by bucket, until the optimizer step "
            "ends. Rightwards run the bytes that were allocated and released so far, not time. On a GPU these are the "
            "bytes requested, which the allocator rounds up.",
        )
    page.say("The textbook adds up what exists, the prediction what is live at the same time:")
    page.block(
        Markup("<div class='equations'><p>{}</p><p>{}</p></div>").format(
            _TEXTBOOK.format("The textbook's memory", textbook.TRAINED), _PREDICTED.format("The predicted memory")
        )
    )
    page.say(
        f"N counts parameters, b is {textbook.FROZEN_HALF:g} bytes in half precision and {textbook.FROZEN_NF4:g} in "
        "NF4; p is a phase, t an instant in it, x a tensor."
    )
    with page.fold("What the words mean"):
        page.definitions(WORDS)
