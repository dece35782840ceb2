"""The script that lies beside a demonstration's evidence: all checks of the package with tools that are not ours.

Short enough to be read before it is run, because that is its point. It knows that there is one recording, logged from
the camera's first record on, and looks into the video. The verify.sh in each package is for packages in general, finds
more and names it, and takes longer to read; the demonstration runs both.
"""

from __future__ import annotations

from pathlib import Path

CHECK_SCRIPT = r"""#!/bin/sh
# Checks the recording of this demonstration with sha256sum, openssl, sed and ffprobe, and nothing of bodycam-agent.
# Each `bodycam demo` writes it anew. docs/examiner.md does the same for evidence of real cameras.
set -eu
LC_ALL=C; export LC_ALL
wrong() { echo "WRONG: $*"; exit 1; }
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
cd "$(dirname "$0")"
root=$PWD/key/BENCH-ONLY-root.pem      # for real evidence: from the department, never out of the package
cd store/*/*/
recording=${PWD##*/}

# 1. No file was changed by accident. (Whoever changes one on purpose writes SHA256SUMS anew: hence 2 and 3.)
sha256sum --quiet --strict -c SHA256SUMS || wrong "a file is not as SHA256SUMS lists it"
echo "1. The files are as listed."

# 2. The camera signed its log, a JSON record a line. Each holds its number, from 1, and the SHA-256 of the one before:
#    none can be changed, taken out, put in or moved. "-" is no signature: the next signed record covers that one.
cat journal/*.journal > "$work/journal"
number=0 before=0000000000000000000000000000000000000000000000000000000000000000 signature=-
while IFS="$(printf '\t')" read -r record signature; do
    number=$((number + 1))
    case $record in
        '{"v":1,"seq":'"$number"',"prev":"'"$before"'",'*) ;;
        *) wrong "record $number of the log does not follow from the one before it" ;;
    esac
    before=$(printf %s "$record" | sha256sum | cut -c 1-64)
    printf '%s\n' "$record" >> "$work/log"
    printf %s "$record" > "$work/record"
    [ "$signature" = - ] && continue
    printf %s "$signature" | base64 -d 2> /dev/null > "$work/signature" || wrong "record $number: no base64"
    openssl cms -verify -binary -inform DER -in "$work/signature" -content "$work/record" -nointern \
        -certfile device/chain.pem -CAfile "$root" -no-CApath -no-CAstore -out /dev/null 2> "$work/said" ||
        wrong "record $number of the log is not signed by this camera: $(tail -n 1 "$work/said")"
    last=$number
done < "$work/journal"
[ "${last:-none}" = "$number" ] || wrong "the log's last record is not signed"
echo "2. The $number records of the log are signed by the camera, and none is missing between them."

# 3. The video is what was signed: the log names each of its files with its SHA-256.
about() { grep "\"type\":\"$1\"" "$work/log" | grep "\"recording_id\":\"$recording\""; }
{
    about recording-open | sed -n 's/.*"init_file":"\([^"]*\)".*"init_sha256":"\([^"]*\)".*/\2  \1/p'
    about segment | sed -n 's/.*"file":"\([^"]*\)".*"sha256":"\([^"]*\)".*/\2  \1/p'
} > "$work/media"
sha256sum --quiet --strict -c "$work/media" || wrong "a file of the video is not the one that was signed"
[ "$(cut -c 67- "$work/media" | sort)" = "$(ls -- *.mp4 *.m4s | sort)" ] ||
    wrong "the video has other files than the log"
echo "3. The video's files are those that the log names."

# 4. It plays, and is whole: the log's end of the recording says how many frames there are.
frames=$(about recording-close | sed -n 's/.*"frames":\([0-9]*\).*/\1/p')
[ -n "$frames" ] || wrong "the log holds no end of this recording"
counted=$(cat init.mp4 0*.m4s | ffprobe -v error -select_streams v -count_packets \
    -show_entries stream=nb_read_packets -of csv=p=0 -)
[ "$counted" = "$frames" ] || wrong "the log says $frames frames, ffprobe counts $counted"
echo "4. It has the $frames frames that the log says."
"""


def write_check_script(path: Path) -> None:
    """Write it; it finds the package and the root certificate from where it lies."""
    path.write_text(CHECK_SCRIPT, encoding="utf-8")
