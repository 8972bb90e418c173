"""`blemish review`: makes a labelled tree from what a person decided on the page of `predict --review`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.cli.console import bars, escape, out, print_json
from blemish.cli.options import Force, Json


def review(
    saved: Annotated[Path, typer.Argument(help="The file that the page of predict --review saved.")],
    output: Annotated[str, typer.Option("--output", "-o", help="A new folder for the tree.")],
    train: Annotated[float, typer.Option(help="Share of the good images that go to train/good.", min=0, max=1)] = 0.0,
    masks: Annotated[
        bool,
        typer.Option("--masks/--no-masks", help="Write masks of the boxes; each anomalous image then needs a box."),
    ] = True,
    seed: Annotated[int, typer.Option(help="Seed that chooses the images of --train.", min=0, max=(1 << 32) - 1)] = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a labelled tree from reviewed images, for evaluate and fit. The images are copied, not changed.

    Example: [bold]blemish review review.json -o labelled[/bold]
    """
    from blemish.results import read_review, write_tree

    with bars() as progress:
        made = write_tree(
            read_review(saved), output, train=train, masks=masks, seed=seed, force=force, progress=progress
        )
    if as_json:
        print_json({"tree": output, **made.as_dict()})
        return
    trained = f"{made.train} good to train, " if made.train else ""
    out.print(
        f"{trained}{made.good} good and {made.anomalous} anomalous to test, {made.masks} with a mask: {escape(output)}"
    )
