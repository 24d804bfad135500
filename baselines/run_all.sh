#!/usr/bin/env bash
# The whole path, from clips or features to a checked submission and a report.
#
#     baselines/run_all.sh                              on a small demo dataset, which is made first
#     BLEMORE_DATA=/path/to/dataset baselines/run_all.sh    on the real one, from its pre-extracted features if they are there
#
# BLEMORE_ENCODERS="ImageBind WavLM_large" says which features are used together (default: see choose_encoders).
# BLEMORE_OUT=/path is where everything is written instead of output/ in the repository's root.
# What is done is not done again: stop it when you like and start it again. Delete the output folder to start afresh.
set -euo pipefail

# ---------------------------------------------------------------------------------------------------------- steps
number=0

# step TITLE OUTPUT INPUT… -- COMMAND…
# Runs the command, unless this very command has made OUTPUT before and no INPUT has changed since. A marker written
# after success remembers that: a file that a killed command leaves half-written is never taken for a result.
step() {
    local title=$1 output=$2 marker command fresh=yes
    marker=${output#"$out"/}
    marker=$out/.done/${marker//\//,}
    number=$((number + 1))
    shift 2
    [ -e "$output" ] && [ -e "$marker" ] || fresh=no
    while [ "$1" != -- ]; do
        [ ! "$1" -nt "$marker" ] || fresh=no # never so for an input that is not there
        shift
    done
    shift
    command=$(printf '%q ' "$@")
    if [ "$fresh" = yes ] && [ "$(cat "$marker")" = "$command" ]; then
        say "[$number] $title: done already"
        return
    fi
    say "[$number] $title"
    mkdir -p "$(dirname "$output")" "$out/.done"
    rm -f "$marker"
    "$@" || fail "" "Step $number ($title) failed; the lines above say why. The command was:" "    $command" \
        "Once that is mended, start this script again: it goes on here."
    printf '%s\n' "$command" >"$marker"
}

# keep FILE COMMAND…: what the command prints goes into the file, and on the screen if it fails
keep() {
    local file=$1
    shift
    if "$@" >"$file.part"; then
        mv "$file.part" "$file"
    else
        cat "$file.part" >&2
        return 1
    fi
}

# ---------------------------------------------------------------------------------------- clips, features, tables
train_tables=() test_tables=() # one aggregated table an encoder
missing=""                     # encoders without features of the test clips

# extract PART ENCODER METADATA VIDEOS: sets $features, the folder of the encoder's features of these clips
extract() {
    features=$work/features/$1/$2
    step "Extract $2 ($1)" "$features/meta.json" "$3" "$4" -- \
        blemore-baselines extract --encoder "$2" --metadata "$3" --clips "$4" --out "$work/features/$1"
}

# add_table PART ENCODER METADATA FEATURES: one row a clip; FEATURES that are one file have that form already
add_table() {
    local table=$work/features/$1/$2.npz
    if [ -f "$4" ]; then
        table=$4
    else
        step "Aggregate $2 ($1)" "$table" "$3" "$4" "$4/meta.json" "$4/failures.csv" -- \
            blemore-baselines aggregate --features "$4" --metadata "$3" --out "$table"
    fi
    if [ "$1" = train ]; then train_tables+=("$table"); else test_tables+=("$table"); fi
}

prepare_demo() {
    local demo encoder features
    work=$out/demo
    demo=$work/data train_csv=$work/data/train_metadata.csv test_csv=$work/data/test_metadata.csv
    labels=$work/data/test_labels.json encoders="gray_flow logmel"
    step "Make the demo dataset" "$labels" -- blemore-baselines demo --out "$demo"
    for encoder in $encoders; do
        extract train "$encoder" "$train_csv" "$demo/train"
        add_table train "$encoder" "$train_csv" "$features"
        extract test "$encoder" "$test_csv" "$demo/test"
        add_table test "$encoder" "$test_csv" "$features"
    done
}

# ------------------------------------------------------------------------------------------------ the real dataset
look() { find -L "$data" "$@" 2>/dev/null | sort || true; } # a folder that may not be read is passed over
first() { sed -n 1p; }

# Prints "encoder <tab> path" for all features of a partition: folders <encoder>_train or <encoder>_test, then the
# aggregated files <encoder>_static_features.npz, which are of train unless their path says test.
list_features() {
    local path
    look -maxdepth 3 -type d -name "*_$1" | while IFS= read -r path; do
        [ -z "$(find -L "$path" -maxdepth 1 \( -name '*.npy' -o -name '*.csv' ! -name '*_metadata.csv' \) | first)" ] ||
            printf '%s\t%s\n' "$(basename "${path%_"$1"}")" "$path"
    done
    look -maxdepth 4 -type f -name '*_static_features.npz' | while IFS= read -r path; do
        case /${path#"$data"/} in *[/_.-]test[/_.-]*) [ "$1" = test ] ;; *) [ "$1" = train ] ;; esac || continue
        printf '%s\t%s\n' "$(basename "$path" _static_features.npz | sed "s/_$1\$//")" "$path"
    done
}
features_of() { list_features "$1" | awk -F '\t' -v encoder="$2" '$1 == encoder { print $2 }' | first; }

# Prints the folder that has the videos of the first and the last clip of the metadata, be it one folder an actor.
videos_of() {
    local clip video folder="" suffix='\.(mov|mp4|m4v|mkv|avi|webm)$'
    for clip in $(sed -n '2p;$p' "$1" | cut -d , -f 1 | tr -d '"\r' | sed -E "s/$suffix//"); do
        video=$(look -maxdepth 4 -type f \( -name "$clip" -o -name "$clip.*" \) | grep -iE "$suffix" | first) || continue
        folder=${folder:-$(dirname "$video")}
        until [ "${video#"$folder"/}" != "$video" ]; do folder=$(dirname "$folder"); done
    done
    echo "$folder"
}

# The paper's best pair, else its best without ImageBind, else all there is, else what can be extracted anywhere.
choose_encoders() {
    local found
    found=$(list_features train | cut -f 1 | sort -u | tr '\n' ' ')
    found=${found% }
    case ",${found// /,,}," in
    *,ImageBind,*,WavLM_large,*) found="ImageBind WavLM_large" ;;
    *,VideoMAEv2,*,WavLM_large,*) found="VideoMAEv2 WavLM_large" ;;
    esac
    echo "${BLEMORE_ENCODERS:-${found:-gray_flow logmel}}"
}

prepare_dataset() {
    local encoder features train_videos test_videos=""
    data=$(CDPATH='' cd -- "$BLEMORE_DATA" 2>/dev/null && pwd) || fail "BLEMORE_DATA is $BLEMORE_DATA: no such folder."
    work=$out/real labels=""
    train_csv=$(look -maxdepth 2 -type f -name train_metadata.csv | first)
    test_csv=$(look -maxdepth 2 -type f -name test_metadata.csv | first)
    [ -n "$train_csv" ] || fail "There is no train_metadata.csv in $data or in a folder of it." \
        "BLEMORE_DATA must name the folder that the dataset was unpacked into (see data/README.md)."
    encoders=$(choose_encoders)
    train_videos=$(videos_of "$train_csv")
    [ -z "$test_csv" ] || test_videos=$(videos_of "$test_csv")
    say "Dataset: $data" "Encoders: $encoders"
    for encoder in $encoders; do
        features=$(features_of train "$encoder")
        if [ -n "$features" ]; then
            add_table train "$encoder" "$train_csv" "$features"
            features=$(features_of test "$encoder")
        elif [ -n "$train_videos" ]; then
            extract train "$encoder" "$train_csv" "$train_videos"
            add_table train "$encoder" "$train_csv" "$features"
            features=""
            [ -z "$test_videos" ] || extract test "$encoder" "$test_csv" "$test_videos"
        else
            fail "There are neither features of $encoder (such as a folder ${encoder}_train) nor videos in $data." \
                "Features found: $(list_features train | cut -f 1 | sort -u | tr '\n' ' ')"
        fi
        if [ -n "$test_csv" ] && [ -n "$features" ]; then
            add_table test "$encoder" "$test_csv" "$features"
        else
            missing="$missing $encoder"
        fi
    done
}

# ------------------------------------------------------------------------------------- training to submission
train_and_submit() {
    local table train_features=() test_features=() report_options
    run=$work/run-${encoders// /+} submission=""
    for table in "${train_tables[@]}"; do train_features+=(--features "$table"); done
    report_options=("${train_features[@]}")
    step "Train on ${encoders// / + }" "$run/metrics.json" "$train_csv" "${train_tables[@]}" -- \
        blemore-baselines train --metadata "$train_csv" "${train_features[@]}" \
        --method aggregate --head mlp512 --preset published --out "$run"
    step "Trivial baselines" "$work/trivial.txt" "$train_csv" -- \
        keep "$work/trivial.txt" blemore-baselines trivial --metadata "$train_csv" --fit scored

    if [ -z "$missing" ]; then
        submission=$run/submission.zip
        for table in "${test_tables[@]}"; do test_features+=(--features "$table"); done
        step "Predict the test clips" "$submission" "$run/metrics.json" "$test_csv" "${test_tables[@]}" -- \
            blemore-baselines predict --model "$run" "${test_features[@]}" --ids "$test_csv" --out "$submission"
        step "Check the submission" "$run/check.txt" "$submission" "$test_csv" -- \
            keep "$run/check.txt" blemore-score --check "$submission" --ids "$test_csv"
    fi
    if [ -n "$labels" ]; then
        step "Score the submission" "$run/score.txt" "$submission" "$labels" -- \
            keep "$run/score.txt" blemore-score "$submission" "$labels" --per-clip "$run/per_clip.csv"
        report_options+=(--labels "$labels" --submission "$submission")
    fi
    step "Write the report" "$run/report.html" "$run/metrics.json" ${submission:+"$submission"} -- \
        blemore-baselines report "$run" "${report_options[@]}"
}

summarise() {
    echo
    echo "Trivial baselines, the floor for every system:"
    cat "$work/trivial.txt"
    echo
    if [ -n "$labels" ]; then
        echo "The score of the demo submission (invented clips: the figures say nothing about real ones):"
        cat "$run/score.txt"
    else
        echo "Nested figures on train, each fold decoded with what the other folds chose:"
        nested_figures
    fi
    echo
    echo "Report:     $run/report.html"
    if [ -z "$submission" ]; then
        echo "Submission: none, as features of the test clips are missing for:$missing"
        echo "            (wanted: test_metadata.csv, and folders such as${missing// /, }_test beside those of train)"
    else
        echo "Submission: $submission"
        [ -n "$labels" ] || echo "Next: upload it to the competition, https://www.codabench.org/competitions/14051/"
    fi
    [ -z "$labels" ] || echo "Next: the real dataset (see data/README.md): BLEMORE_DATA=/path/to/dataset bash $0"
    echo "Everything was written to $out"
}

nested_figures() {
    "$venv/bin/python" - "$run/metrics.json" <<'PYTHON'
import json, sys

nested = json.load(open(sys.argv[1], encoding="utf-8"))["nested"]
for name in ("acc_presence", "acc_salience", "score"):
    folds = nested["over_folds"][name]
    print(f"  {name:<13} {nested[name]:.3f}   over folds {folds['mean']:.3f} ± {folds['std']:.3f}")
PYTHON
}

main() {
    local here root
    here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
    root=$(dirname "$here")
    # shellcheck source=baselines/environment.sh
    source "$here/environment.sh"
    [ $# -eq 0 ] || fail "run_all.sh takes no arguments; it is told everything by variables:" "$(sed -n '4,9s/^# *//p' "$0")"
    prepare_environment "$root"
    PATH=$venv/bin:$PATH

    out=${BLEMORE_OUT:-$root/output}
    mkdir -p "$out" || fail "$out cannot be made: BLEMORE_OUT=/path names another folder."
    out=$(CDPATH='' cd -- "$out" && pwd)
    say "Everything is written to $out"
    if [ -n "${BLEMORE_DATA:-}" ]; then prepare_dataset; else prepare_demo; fi
    train_and_submit
    summarise
}

[ "${BASH_SOURCE[0]}" != "$0" ] || main "$@"
