"""The commands for the encoders' weights: list them, and fetch missing ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from blemore.errors import BlemoreError, Problem, ValidationError
from blemore_baselines.commands.common import agrees, table, talk

if TYPE_CHECKING:
    from blemore_baselines.encoders.torch_encoder import TorchEncoder


@click.group(invoke_without_command=True)
@click.pass_context
def weights(context: click.Context) -> None:
    """List the weights of all encoders that use any: where they are, their licence, and where they are published.

    \b
    Example:
      blemore-baselines weights
      blemore-baselines weights get clip
    """
    if context.invoked_subcommand:
        return
    from blemore_baselines.encoders import ENCODERS, installed

    rows = [("encoder", "here", "licence", "published at")]
    for name in [*ENCODERS, *installed()]:
        try:
            encoder = _encoder(name)
        except BlemoreError:  # it has none
            continue
        rows.append((name, _place(encoder), encoder.licence or "–", encoder.weights))
    click.echo(table(rows))


@weights.command()
@click.argument("name")
@click.option("--yes", is_flag=True, help="Agree to the licence without being asked.")
def get(name: str, yes: bool) -> None:
    """Fetch the weights of the encoder NAME from its authors' page, to the folder where `extract` looks.

    An interrupted download resumes where it stopped. Files are checked against the publisher's hash, and pinned in
    weights.lock.json next to them.

    \b
    Example:
      blemore-baselines weights get clip
      blemore-baselines weights get hf-image:facebook/dinov2-base --yes
    """
    from blemore_baselines.encoders import download

    encoder = _encoder(name)
    folder = download.weights_folder()
    talk(f"{name}: {encoder.weights}\nlicence: {encoder.licence or 'not stated; see its page'}")
    is_known = download.read_lock(folder).get(name, {}).get("licence") == encoder.licence
    if not (yes or is_known or agrees("Do you agree to it?")):
        talk("nothing was fetched")
        sys.exit(1)
    download.note(name, licence=encoder.licence)
    for path in download.get(name, encoder.weights, encoder.file):
        click.echo(path)


def _encoder(name: str) -> TorchEncoder:
    """An encoder with weights. Raises ValidationError: it has none."""
    from blemore_baselines.encoders import create
    from blemore_baselines.encoders.torch_encoder import TorchEncoder

    encoder = create(name)
    if not isinstance(encoder, TorchEncoder):
        message = f"has no weights to fetch ({encoder.weights or 'it needs none'}); expected an encoder with weights"
        raise ValidationError(Problem("no-weights", f"encoder {name!r}", message))
    return encoder


def _place(encoder: TorchEncoder) -> str:
    from blemore_baselines.encoders.weights import find

    try:
        return str(find(encoder, fetch=False))
    except BlemoreError:
        return "no"
