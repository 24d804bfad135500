"""The figures of thresholds, of structured decoding and of constant answers, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from blemore.metrics import Counts
from blemore.report import comparison_lines, difference_lines
from blemore.significance import Comparison, Difference, Estimate, SignFlip
from blemore.tables import Cell, Table, to_text
from blemore.trivial import Trivial

METRICS = {"acc_presence": "ACC_presence", "acc_salience": "ACC_salience", "score": "score"}
ACCOUNTS = {
    "published": "each fold with its own best epoch and thresholds, as in the paper (optimistic)",
    "nested": "each fold with choices made on the other folds",
}


def run_to_text(metrics: Mapping) -> str:
    """The text for what `train` returns: the accounts of thresholds, and of another decoder if the run has one; with
    several seeds, pooled figures first, then those of each seed.
    """
    others = [show(metrics[name]) for name, show in DECODER_TEXTS.items() if name in metrics]
    seeds = [f"{SEEDS_POOLED}\n", "", *map(to_text, seeds_tables(metrics)), SEEDS] if "seeds" in metrics else []
    return "\n".join([*seeds[:1], *_transductive_note(metrics), figures_to_text(metrics), *others, *seeds[1:]])


SEEDS_POOLED = "The model for new clips combines all seeds. Its figures come first, those of each seed last."
SEEDS = (
    "Seeds differ only in random numbers, so their figures vary by chance: a smaller gain is no evidence of an"
    " improvement."
)


def seeds_tables(metrics: Mapping) -> list[Table]:
    """For a run of several seeds, a table per decoder: each seed's nested figures, their mean and standard deviation,
    and the figures of all seeds together.
    """
    tables = []
    for decoder, seeds in metrics["seeds"].items():
        pooled = (metrics if decoder == "thresholds" else metrics[decoder])["nested"]
        rows = {str(row["seed"]): row for row in seeds["by_seed"]}
        for name, key in (("mean over seeds", "mean"), ("standard deviation", "std")):
            rows[name] = {metric: seeds["over_seeds"][metric][key] for metric in METRICS}
        rows["all seeds together"] = pooled
        cells: list[list[Cell]] = [[name, *(row[metric] for metric in METRICS)] for name, row in rows.items()]
        tables.append(Table(f"{decoder}, nested, by seed", ["seed", *METRICS.values()], cells))
    return tables


def _transductive_note(metrics: Mapping) -> list[str]:
    """The note on a run whose features were normalised per actor."""
    if "normalise" not in metrics:
        return []
    method = metrics["normalise"]["method"]
    return [
        f"Features normalised per actor ({method}), over all clips of an actor at once: every figure is transductive.\n"
    ]


def decoder_to_text(name: str, figures: Mapping) -> str:
    """The figures of a fitted decoder (`decoders.Decoded.figures`) as text; for normalised scores, also compared with
    the inductive account.
    """
    text = DECODER_TEXTS[name](figures)
    return "\n".join([text, *_normalised_lines(figures["normalise"])]) if "normalise" in figures else text


def _normalised_lines(normalise: Mapping) -> list[str]:
    """Both accounts of `decoding.transductive.fit`, and their difference."""
    accounts = {
        f"transductive: scores normalised per actor ({normalise['method']})": normalise["transductive"],
        "inductive: each clip by itself": normalise["inductive"],
    }
    rows: list[list[Cell]] = []
    for name, account in accounts.items():
        rows.append([name, *(account[metric] for metric in METRICS)])
        rows += [[f"  {end}", *(bound[metric] for metric in METRICS)] for end, bound in _bounds(account).items()]
    title = "nested, with and without all clips of an actor at once; all other figures above are transductive"
    return [
        "",
        to_text(Table(title, ["", *METRICS.values()], rows)),
        *_difference(normalise["transductive"]["against"]),
        "",
        normalise["transductive"]["signature"],
    ]


def _bounds(account: Mapping) -> dict[str, dict[str, float | None]]:
    """The bounds of an account's intervals, by metric; empty for a run from an earlier version."""
    if "ci" not in account:
        return {}
    intervals = account["ci"]["intervals"]
    return {
        f"{end} end of the 95 % interval": {m: intervals[m][k] if m in intervals else None for m in METRICS}
        for k, end in enumerate(("lower", "upper"))
    }


def folds_table(figures: Mapping, account: str) -> Table:
    """One account of `blemore_baselines.decoding.figures`: its folds and their summary."""
    values = figures[account]
    choices = ["epoch", "alpha", "beta"] if any(fold["epoch"] > 1 for fold in values["folds"]) else ["alpha", "beta"]
    summary = [
        (name, {metric: values["over_folds"][metric][key] for metric in METRICS})
        for name, key in (("mean over folds", "mean"), ("standard deviation", "std"))
    ]
    if account == "nested":
        summary += [("pooled over all clips", values), *_bounds(values).items()]
    return Table(
        f"{account}: {ACCOUNTS[account]}",
        ["fold", *choices, *METRICS.values()],
        [[str(fold["fold"]), *(fold[name] for name in (*choices, *METRICS))] for fold in values["folds"]]
        + [[name, *[""] * len(choices), *(row[metric] for metric in METRICS)] for name, row in summary],
    )


def figures_to_text(figures: Mapping) -> str:
    """Both accounts, the final thresholds if there are any, and for a run which model the nested figures describe."""
    lines = [to_text(folds_table(figures, account)) for account in ACCOUNTS]
    if "final" in figures:
        final = figures["final"]
        lines.append(
            f"Final thresholds: alpha {final['alpha']:.6f}, beta {final['beta']:.6f}, fitted on {final['fitted_on']}"
        )
        lines += [nested_model(figures)] if "epochs" in final else []
    return "\n".join(lines)


def nested_model(metrics: Mapping) -> str:
    """A sentence on whether a run's nested figures describe its model for new clips."""
    final, fold_epochs = metrics["final"], epochs(metrics["nested"])
    if fold_epochs != str(final["epochs"]):
        return (
            "The nested figures do not describe the model for new clips: they use epoch"
            f" {fold_epochs} of each fold, but that model is trained for {final['epochs']} epochs."
        )
    if final["test_protocol"] != "pooled":
        return (
            f"The nested figures use the final model's number of epochs, {fold_epochs}, but thresholds chosen on all"
            " other folds; the final model's thresholds are those of one fold."
        )
    return (
        "The nested figures describe the model for new clips: each fold's model is also trained for"
        f" {fold_epochs} epochs, and decoded with thresholds chosen on other clips."
    )


def epochs(account: Mapping) -> str:
    """The epochs of an account's folds, as "200" or "150 to 198"."""
    numbers = [fold["epoch"] for fold in account["folds"]]
    return " to ".join(map(str, sorted({min(numbers), max(numbers)})))


def structured_to_text(figures: Mapping) -> str:
    """The nested account of structured decoding by fold, its models' weights, and the reliability of its posterior."""
    nested, weight, calibration = figures["nested"], figures["weight"], figures["calibration"]
    aim = "score" if weight == 0.5 else f"{weight:g} · ACC_presence + {1 - weight:g} · ACC_salience"
    reached = weight * nested["acc_presence"] + (1 - weight) * nested["acc_salience"]
    return "\n".join(
        [
            to_text(_structured_folds(nested, figures["nested_thresholds"])),
            *_difference(nested["against"]),
            "",
            to_text(_models_table(figures["models"])),
            to_text(_posterior_table(calibration)),
            f"The chosen sets' probabilities are off by {calibration['set_error']:.4f} on average (expected calibration"
            " error).",
            f"The decoder's expected {aim} is {calibration['expected_score']:.4f}; it reached {reached:.4f}.",
            "",
            nested["signature"],
        ]
    )


# The text of each decoder's figures, for `decoders.DECODERS`.
DECODER_TEXTS = {"thresholds": figures_to_text, "structured": structured_to_text}


def _structured_folds(nested: Mapping, nested_thresholds: Mapping) -> Table:
    """Each fold, all clips with their intervals, and thresholds on the same clips."""
    pooled = {
        "pooled over all clips": nested,
        **_bounds(nested),
        "thresholds, pooled": nested_thresholds,
        **{f"thresholds, {end}": bound for end, bound in _bounds(nested_thresholds).items()},
    }
    return Table(
        "structured decoding, nested: each fold with a model and a strength from the other folds",
        ["fold", "strength", *METRICS.values()],
        [[str(fold["fold"]), f"{fold['strength']:g}", *(fold[name] for name in METRICS)] for fold in nested["folds"]]
        + [[name, "", *(values[metric] for metric in METRICS)] for name, values in pooled.items()],
    )


def _models_table(models: list[Mapping]) -> Table:
    return Table(
        "models: factors of their log-probabilities, and weights",
        ["scores", "inverse temperature", "weight", "missing clips"],
        [[model["path"], model["inverse_temperature"], model["weight"], len(model["missing"])] for model in models],
    )


def _posterior_table(calibration: Mapping) -> Table:
    rows = {"structured": calibration["posterior"], "label frequencies alone": calibration["frequencies"]}
    return Table(
        "posterior over the 36 labels, out of fold; lower is better",
        ["", "log loss", "Brier score"],
        [[name, values["log_loss"], values["brier"]] for name, values in rows.items()],
    )


def _difference(against: Mapping | list[Mapping]) -> list[str]:
    """The paired difference to thresholds, in the words of `blemore.report`, from its JSON."""
    if isinstance(against, list):
        return comparison_lines({rival["name"]: _comparison(rival) for rival in against})
    lines = difference_lines("thresholds on the same scores, nested as well", _comparison(against))
    return [*lines, "Intervals and p-values use the bootstrap of version 0.2. Train or decode again for current ones."]


def _comparison(content: Mapping) -> Comparison:
    differences = {}
    for metric, entry in content["differences"].items():
        low, high = entry["interval"] or (None, None)
        estimate = Estimate(entry["delta"], low, high, entry["p"], entry.get("reason"))
        flips = entry.get("sign_flip")
        differences[metric] = Difference(estimate, entry.get("p_holm"), flips and SignFlip(**flips))
    return Comparison(differences, content["unit"], content["units"], content.get("without_blends", 0))


TRIVIAL_NOTES = {
    "single": "most frequent single emotion",
    "pair": "most frequent pair",
    "blend": "most frequent pair with saliences",
}


def trivial_to_text(answers: Trivial, results: Mapping[str, Counts], fit: str) -> str:
    return to_text(
        Table(
            "Constant answers: the most frequent labels"
            f" {'of the scored clips, as in the paper' if fit == 'scored' else 'in train'}",
            ["answer", "ACC_presence", "right sets", "ACC_salience", "right blends", ""],
            [
                [
                    str(getattr(answers, name)),
                    counts.acc_presence,
                    f"{counts.presence}/{counts.n}",
                    counts.acc_salience,
                    f"{counts.salience}/{counts.n_blends}",
                    TRIVIAL_NOTES[name],
                ]
                for name, counts in results.items()
            ],
        )
    ).rstrip("\n")


def trivial_to_dict(answers: Trivial, results: Mapping[str, Counts], fit: str) -> dict:
    return {
        "fit": fit,
        **{
            name: {
                "answer": str(getattr(answers, name)),
                **counts._asdict(),
                "acc_presence": counts.acc_presence,
                "acc_salience": counts.acc_salience,
                "score": counts.score,
            }
            for name, counts in results.items()
        },
    }
