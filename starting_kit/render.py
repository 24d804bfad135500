"""Run the notebook and write it as one self-contained page.

    python starting_kit/render.py output/blemore_starting_kit.html

Needs the extra `notebook`. BLEMORE_DATA and BLEMORE_OUT are as in the notebook.
"""

from __future__ import annotations

import sys
from pathlib import Path

try:
    import ipykernel  # noqa: F401  runs the cells
    import nbformat
    from bs4 import BeautifulSoup
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbconvert import HTMLExporter
    from tqdm import tqdm

    from blemore.errors import FileError
    from blemore.io import write_atomic
except ModuleNotFoundError as error:
    sys.exit(f"render.py needs {error.name}, which is not installed: pip install '.[notebook]'")

NOTEBOOK = Path(__file__).resolve().parent / "blemore_starting_kit.ipynb"


def run(notebook: nbformat.NotebookNode) -> None:
    """Execute all cells, in place, with a progress bar. CellExecutionError: a cell failed."""
    cells = sum(cell.cell_type == "code" for cell in notebook.cells)
    with tqdm(total=cells, unit="cell", disable=None) as progress:
        NotebookClient(
            notebook,
            timeout=None,
            extra_arguments=["--Application.log_level=ERROR"],  # it would warn about how it is started here
            resources={"metadata": {"path": str(NOTEBOOK.parent)}},
            on_cell_execute=lambda cell, cell_index: progress.set_description(cell.id),
            on_cell_executed=lambda cell, cell_index, execute_reply: progress.update(),
        ).execute()


def page(notebook: nbformat.NotebookNode) -> str:
    """An executed notebook as self-contained HTML, without scripts or progress bars, and with a description of each
    figure.
    """
    figures = []
    for cell in notebook.cells:
        cell.outputs = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        figures += [
            output.metadata["image/png"]["alt"] for output in cell.outputs if "image/png" in output.get("data", {})
        ]
    exporter = HTMLExporter()
    exporter.log.setLevel("ERROR")  # it would warn that its template has no descriptions of figures
    html = BeautifulSoup(exporter.from_notebook_node(notebook)[0], "html.parser")
    for script in html("script"):
        script.decompose()
    for image, text in zip(html("img"), figures, strict=True):
        image["alt"] = text
    return str(html)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    executed, target = nbformat.read(NOTEBOOK, as_version=4), Path(sys.argv[1])
    try:
        run(executed)
        write_atomic(target, page(executed))
        print(f"{target}: the notebook and its results, as one page")
    except CellExecutionError as error:
        number = max(cell.get("execution_count") or 0 for cell in executed.cells)
        sys.exit(f"{NOTEBOOK.name}, code cell {number}: {error.ename}: {error.evalue}")
    except FileError as error:
        sys.exit(str(error))
