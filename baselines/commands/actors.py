"""The command that groups clips by person: actors."""

from __future__ import annotations

from pathlib import Path

import click

from blemore.cli import PATH
from blemore.evaluate import read_ids
from blemore.io import csv_text, write_atomic
from blemore_baselines.commands.common import features_option, talk

TRUST = (
    "How reliable these groups are depends on the features. To evaluate the same features on train, give --metadata"
    " train_metadata.csv instead of --ids."
)
JUDGED = (
    "The test partition has about as many actors as a fold, so look at the figures per fold. Other people may be easier"
    " or harder to tell apart."
)


@click.command()
@features_option
@click.option("--ids", type=PATH, metavar="CSV", help="The clips to group: test_metadata.csv.")
@click.option("--metadata", type=PATH, metavar="CSV", help="Instead of --ids: evaluate the clusters on train's actors.")
@click.option(
    "--number", type=click.IntRange(1), metavar="N", help="The number of actors, if known.  [default: estimated]"
)
@click.option("--clips", type=PATH, metavar="DIR", help="Draw a few clips of each cluster, as a PNG next to --out.")
@click.option("--out", type=PATH, required=True, metavar="CSV", help="Where to write the groups (filename,actor).")
def actors(
    features: tuple, ids: Path | None, metadata: Path | None, number: int | None, clips: Path | None, out: Path
) -> None:
    """Cluster clips by person: the groups that `predict` and `decode` take.

    No labels are used, only that clips of one person look and sound alike. Before you rely on the clusters, look at the
    picture, and evaluate the same features on train.

    \b
    Examples:
      blemore-baselines actors --features looks.npz --ids test_metadata.csv --clips test --out groups.csv
      blemore-baselines actors --features looks_train.npz --metadata train_metadata.csv --out train_groups.csv
    """
    if bool(ids) == bool(metadata):
        raise click.UsageError("expected either --ids or --metadata")
    if number and metadata:
        raise click.UsageError(
            "--number goes with --ids; train's number of actors is known, and the last column uses it"
        )
    from blemore.tables import Table, to_text
    from blemore_baselines.dataset import GROUP_COLUMNS, read_dataset
    from blemore_baselines.features import read_features
    from blemore_baselines.survey.persons import cluster, judge

    dataset = read_dataset(metadata) if metadata else None
    names = read_ids(ids) if ids else []
    if dataset:
        names = dataset.ids
    sources = [read_features(path, names) for path in features]
    if dataset:
        clusters, table = judge(dataset, sources)
    else:
        clusters = cluster(sources, number)
        origin = "given" if number else "estimated"
        table = Table(f"{len(clusters.sizes)} persons ({origin})", ("actor", "clips"), list(clusters.sizes.items()))
    pictures = None
    if clips:
        from blemore_baselines.survey.contact_sheet import draw, find_samples

        pictures = draw(clusters, find_samples(clusters, clips))
    write_atomic(out, csv_text([GROUP_COLUMNS, *zip(clusters.ids, clusters.persons)]))
    click.echo(to_text(table), nl=False)
    talk(JUDGED if dataset else TRUST)
    talk(f"{out}: the groups")
    if pictures:
        write_atomic(out.with_suffix(".png"), pictures)
        talk(f"{out.with_suffix('.png')}: clips of each group")
