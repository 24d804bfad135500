"""Studies of questions that the paper leaves open, one module each.

A study is a module here with a function of the same name, and an entry in STUDIES, which defines its command. The
function takes the dataset, the arguments listed below for the entry's `takes`, and the study's signature. It returns a
`Study`:

    features       the sources, fused; recipe, head, seed
    sources        their names; the sources; recipe, head, seed
    modalities     the video sources; the audio sources; recipe, head, seed
    probabilities  (N, 6), out of fold, from given scores or from a model trained on features; seed

Nothing is imported here, so the commands' help is fast.
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
        "How much do figures improve if training and validation share actors?",
        "--features logmel.npz --out run/analysis",
    ),
    "thresholds": Entry(
        "probabilities",
        "Do α and β transfer between folds, and what causes the loss?",
        "--scores run --out run/analysis",
    ),
    "actors": Entry(
        "probabilities",
        "How do wrong groups affect scores that are normalised per actor?",
        "--scores run --out run/analysis",
    ),
    "ablation": Entry(
        "modalities",
        "What do video and audio contribute, and what if one is zeroed, noised or swapped at test time?",
        "--video videomae.npz --audio hubert.npz --out analysis",
    ),
    "salience": Entry(
        "features",
        "What to train for: soft labels, regression of shares, ranking, or sets and relations?",
        "--features logmel.npz --out studies",
    ),
    "fusion": Entry(
        "sources",
        "How to fuse modalities: by concatenation, gated attention or a low-rank tensor?",
        "--features imagebind.npz --features wavlm.npz --out studies",
    ),
    "importance": Entry(
        "sources",
        "Which sources, statistics and named OpenFace columns does a head rely on?",
        "--features OpenFace_3_train --features wavlm.npz --out studies",
    ),
}
