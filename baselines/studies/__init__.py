"""The experiments that the paper leaves open, one module each.

A study is a module here with a function of the same name, and an entry in STUDIES, from which its command is made. The
function takes the dataset, what `takes` says, and the study's signature, and returns a `Study`:

    features       the sources, fused; recipe, head, seed
    sources        their names; the sources; recipe, head, seed
    modalities     the sources of the picture; those of the sound; recipe, head, seed
    probabilities  (N, 6), out of fold, of given scores or of a model trained on features; seed

Nothing is imported here, so that the commands' help is shown at once.
"""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    """takes: see above; question: one line of help; example: the options of a call, after the metadata."""

    takes: str
    question: str
    example: str


STUDIES = {
    "identity": Entry(
        "features",
        "Actor-disjoint against actor-inclusive folds: what is the identity of actors worth?",
        "--features logmel.npz --out run/analysis",
    ),
    "thresholds": Entry(
        "probabilities",
        "Do α and β travel? Each fold with thresholds of the others, and what the drop is made of.",
        "--scores run --out run/analysis",
    ),
    "actors": Entry(
        "probabilities",
        "How wrong may groups be? Scores normalised per actor, with clips in the wrong groups.",
        "--scores run --out run/analysis",
    ),
    "ablation": Entry(
        "modalities",
        "Video, audio and both; and a model of both with one zeroed, noised or swapped at test time.",
        "--video videomae.npz --audio hubert.npz --out analysis",
    ),
    "salience": Entry(
        "features",
        "What to train for: soft labels, shares by regression, ranks, or sets and relations.",
        "--features logmel.npz --out studies",
    ),
    "fusion": Entry(
        "sources",
        "How to join modalities: side by side, by gated attention, or by a low-rank tensor.",
        "--features imagebind.npz --features wavlm.npz --out studies",
    ),
    "importance": Entry(
        "sources",
        "What a head relies on: sources, statistics, and OpenFace's named columns, by permutation.",
        "--features OpenFace_3_train --features wavlm.npz --out studies",
    ),
}
