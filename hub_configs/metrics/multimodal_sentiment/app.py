"""A page that computes the metrics from two columns of numbers: `python app.py`, or the folder as a Space."""

import html
from pathlib import Path

import gradio as gr
from huggingface_hub import RepoCard
from metrics import mosi_metrics, sims_metrics

METRICS = {"mosi": mosi_metrics, "sims": sims_metrics}
CHOICES = [
    ("CMU-MOSI, CMU-MOSEI: labels in [-3, 3]", "mosi"),
    ("CH-SIMS, CH-SIMS v2: labels in [-1, 1]", "sims"),
]
EXAMPLE = ["2.4\n-0.8\n0.3\n-2.1\n0.0", "3.0\n-1.2\n-0.2\n-1.8\n0.4"]

THEME = gr.themes.Soft(primary_hue="blue", neutral_hue="slate", font=["system-ui", "Segoe UI", "Roboto", "sans-serif"])
CSS = ".gradio-container { max-width: 60rem !important; margin: 0 auto; }"


def numbers(text: str, name: str) -> list[float]:
    """
    Numbers with spaces, line breaks, commas or semicolons between them.

    Raises:
        gr.Error: Something else is among them.
    """
    found = []
    for word in text.replace(",", " ").replace(";", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            problem = f"{name}: {word[:40]!r} is no number; write them as 0.5, one a line."
            raise gr.Error(html.escape(problem), duration=None, print_exception=False) from None
    return found


def compute(dataset: str, predictions: str, labels: str) -> str:
    """The metrics of `dataset`, mosi or sims, from two columns of numbers: a table in Markdown."""
    columns = numbers(predictions, "predictions"), numbers(labels, "labels")
    try:
        metrics = METRICS[dataset](*columns)
    except ValueError as error:
        raise gr.Error(html.escape(str(error)), duration=None, print_exception=False) from error
    rows = [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def build() -> gr.Blocks:
    card = RepoCard.load(Path(__file__).with_name("README.md")).text
    with gr.Blocks(title="Multimodal sentiment", analytics_enabled=False) as page:
        gr.Markdown("# Multimodal sentiment\n\nThe numbers of the field's tables, from scores and labels.")
        dataset = gr.Radio(CHOICES, value="mosi", label="Data set")
        with gr.Row():
            with gr.Column(min_width=300):
                with gr.Row():
                    predictions = gr.Textbox(EXAMPLE[0], label="Predictions", lines=10, max_lines=10, min_width=120)
                    labels = gr.Textbox(EXAMPLE[1], label="Labels", lines=10, max_lines=10, min_width=120)
                button = gr.Button("Compute", variant="primary")
            with gr.Column(min_width=300):
                table = gr.Markdown(compute("mosi", *EXAMPLE))
        button.click(compute, [dataset, predictions, labels], table, api_name="compute")
        with gr.Accordion("What they are", open=False):
            gr.Markdown(card)
    return page


if __name__ == "__main__":
    build().launch(theme=THEME, css=CSS, ssr_mode=False)
