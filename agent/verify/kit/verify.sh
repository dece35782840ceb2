#!/bin/sh
# verify.sh ROOT.pem [PACKAGE-FOLDER [TSA-ROOT.pem]]
#
# Checks one evidence package (format version 1) of a body-worn camera with openssl and the standard tools of a Unix
# system: is it unchanged, from that camera, complete, and what is known of its time. Findings bear the codes of
# docs/evidence-format.md. ROOT.pem is the department's root certificate, got from the department and not out of the
# package; "-" takes the one in the package, and then the origin stays open. TSA-ROOT.pem holds the root certificate of
# the time authority whose timestamps stand in the log, got from that authority; without it, or with "-", they are read
# and not believed, and the time stays open.
#
# Exit code: 0 nothing refutes the package, 1 something does, 2 the check could not be made.
#
# The package is taken for hostile: nothing in it is run, names and numbers are looked at before they are used, only
# plain files are opened, lines are bounded, and nothing is written outside of a temporary folder. It needs a POSIX
# shell, openssl 1.1.1 or newer, sha256sum, sed, grep, cut, fold, head, tail, tr, sort, uniq, wc, cmp, mktemp, rm, mv, cat.
set -u
LC_ALL=C; export LC_ALL
unset CDPATH ENV
IFS=' 	
'
umask 077

MAX_LINE_BYTES=1048576      # of a journal line
MAX_JOURNAL_BYTES=104857600 # of a journal file: the largest that a camera can be told to write, and its last line
MAX_PEM_BYTES=1048576       # of a chain
MAX_ROW_BYTES=131072        # of a record without what is nested in it
MAX_BRACKETS=10000          # in a record
MAX_LEVELS=16               # of a record, which is one itself
MAX_SAME=10                 # findings of one kind that are printed
MAX_CERTIFICATES=64
MAX_TOKEN_BYTES=65536       # of a timestamp
MAX_ACCURACY_S=86400        # that an authority states
WINDOW_RECORDS=4096         # between a timestamp and the record that it is over
UNSTEADY_PPM=600            # what a sound boot clock drifts, and is slewed, at most

stop() { echo "verify.sh: $*" >&2; exit 2; }
[ $# -ge 1 ] && [ $# -le 3 ] ||
    stop "say: sh verify.sh ROOT.pem [PACKAGE-FOLDER [TSA-ROOT.pem]]   (ROOT.pem from the department, TSA-ROOT.pem from the time authority; - for none)"
for tool in openssl sed grep cut fold head tail tr sort uniq wc cmp mktemp rm mv cat; do
    command -v "$tool" > /dev/null || stop "the tool $tool is not installed here"
done
if command -v sha256sum > /dev/null; then hash() { hashed=$(sha256sum); printf '%s\n' "${hashed%% *}"; }
else hash() { hashed=$(openssl dgst -sha256 -r); printf '%s\n' "${hashed%% *}"; }; fi
if command -v base64 > /dev/null; then decode() { base64 -d; }
else decode() { openssl base64 -d -A; }; fi
root=$1
if [ "$root" != - ]; then
    case $root in /*) ;; *) root=$PWD/$root ;; esac
    openssl x509 -in "$root" -noout -passin pass: < /dev/null 2> /dev/null || stop "there is no root certificate in PEM at $root"
fi
tsa=${3:--}
if [ "$tsa" != - ]; then
    case $tsa in /*) ;; *) tsa=$PWD/$tsa ;; esac
    openssl x509 -in "$tsa" -noout -passin pass: < /dev/null 2> /dev/null || stop "there is no root certificate of a time authority in PEM at $tsa"
fi
package=${2:-.}
case $package in -*) package=./$package ;; esac
work=$(mktemp -d "${TMPDIR:-/tmp}/verify.XXXXXX") || stop "no temporary folder can be made"
case $work in /*) ;; *) work=$PWD/$work ;; esac
trap 'rm -rf "$work"' EXIT
trap 'exit 130' HUP INT TERM
mkdir "$work/sum" "$work/certificate" "$work/runs" "$work/checkpoints" "$work/sealed" "$work/opening" "$work/chain" "$work/authority"
cd "$package" 2> /dev/null || stop "there is no folder $package"
[ -d journal ] || [ -f SHA256SUMS ] || stop "$package is no evidence package (a whole vault is for: bodycam verify)"
tab=$(printf '\t')
zeros=$(printf '%064d' 0)
empty=$(hash < /dev/null)

# --- What is found --------------------------------------------------------------------------------------------------

refuted=                    # something is wrong, wherever
about=- about_until=        # the records, counted from the first, that a finding is about; - when about none in particular
about_file=-                # the file of the package that it is about; - when about none in particular
: > "$work/judged"          # the findings that make less of a verdict if they touch the recording

aspect() {                  # of a code -> $aspect
    case $1 in
        TIME*) aspect=time ;;
        CERT_* | ROOT_*) aspect=origin ;;
        JOURNAL_MISSING | JOURNAL_FILE_MISSING | JOURNAL_UNFINISHED | JOURNAL_LEFTOVER | TORN_TAIL | RECORDS_LOST | CONFIRMED_LOST | \
        CARD_CHANGED | RECORD_TYPE_UNKNOWN | RECORDING_MISSING | RECORDING_UNCLOSED | RECORDING_TOTALS | RECORDING_EMPTY | RECOVERED | \
        GAP | FRAMES_MISSED | RUN_NOT_ENDED | PRE_EVENT_SHORT | MEDIA_TIME | SEGMENT_MISSING | FRAGMENT_COUNT | PACKAGE_INCOMPLETE | PACKAGE_VERSION | \
        EXTRACT) aspect=completeness ;;
        *) aspect=integrity ;;
    esac
}
found() {                   # fail|warn|note, code, sentence
    # Counted in a variable: a process for each of ten thousand findings takes minutes. Both words are this script's own.
    eval "same=\$((\${said_$1_$2:-0} + 1)) said_$1_$2=\$((\${said_$1_$2:-0} + 1))"
    if [ "$same" -le "$MAX_SAME" ]; then printf '%s %s  %s\n' "$1" "$2" "$3"
    elif [ "$same" -eq $((MAX_SAME + 1)) ]; then printf '%s %s  There are more of this kind, which are not listed.\n' "$1" "$2"; fi
    case $1 in fail) refuted=1 ;; note) return ;; esac
    # One that is not listed may be about any record.
    if [ "$same" -le "$MAX_SAME" ]; then printf '%s %s %s %s %s %s\n' "$1" "$2" "$about" "${about_until:-$about}" "$about_file" "$3" >> "$work/judged"
    elif [ "$same" -eq $((MAX_SAME + 1)) ] || [ "$about_file" != - ]; then
        printf '%s %s - - %s %s\n' "$1" "$2" "$about_file" "$3" >> "$work/judged"
    fi
}
fail() { found fail "$1" "$2"; }
warn() { found warn "$1" "$2"; }
note() { found note "$1" "$2"; }
fail_of() {                 # FILE, code, sentence: what is wrong with a file of the package that may be no evidence
    case $1 in
        *[!A-Za-z0-9._/-]* | ?????????????????????????????????????????????????????????????????????????????????*)
            about_file=$(printable "$1" | tr -c 'A-Za-z0-9._/\012-' '?') ;;
        *) about_file=$1 ;;
    esac
    fail "$2" "$3"; about_file=-
}
printable() { printf %s "$1" | tr -c ' -~' '?' | cut -b 1-80; }
progress() { if [ -t 2 ]; then printf '\r%s   ' "$1" >&2; fi; }
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
folder() { [ -d "$1" ] && [ ! -L "$1" ]; }
bytes_of() { size=$(wc -c < "$1"); size=$((size)); }
is_hash() { [ ${#1} -eq 64 ] && case $1 in *[!0-9a-f]*) false ;; esac; }
is_number() { case $1 in '' | *[!0-9]* | 0?* | ???????????????????*) false ;; esac; }     # up to 18 digits: fits the shell
seconds() { seconds=$(($1 / 90000)).$(printf %03d $(($1 % 90000 / 90))); }               # of 90 kHz ticks
span() { seconds "$1"; span=$seconds; seconds "$2"; span="$span to $seconds s"; }         # FROM TO, in such ticks

# --- A record without what is nested in it --------------------------------------------------------------------------
# {"v":1,"a":"x[1]","b":[{"c":2}]} becomes {<v>:1,<a>:<x_1_>,<b>:~}: < and > stand around strings and nowhere else, so
# that a field can be found without reading JSON. Escapes, brackets, < and > inside strings become _; no field that is
# looked at here can hold one.
# Every step reads each byte once, however many strings, brackets and levels there are: strings are split off into lines
# of their own, so that what is done to them is not done to what stands around them.
cat > "$work/strings.sed" <<'SED'
y/<>/__/
s/\\./_/g
s/"\([^"]*\)"/<\1>/g
SED
cat > "$work/inside.sed" <<'SED'
y/~()/!!!/
$b
n
s/[][{}]/_/g
s/.*/<&>/
SED
{
    # Level by level, as many as a record may have; what is nested deeper keeps its brackets and has no record's form.
    # What one step makes is marked with a byte that no journal holds, so that it counts as nested in the next step only.
    printf '%s\n' 's/^{/(/' 's/}$/)/' 's/\[\]/~/g' 's/\([:,[]\){}/\1~/g'
    level=2
    while [ "$level" -lt "$MAX_LEVELS" ]; do
        printf '%s\n' '/[][{}]/!b end' 's/\[[^][{}@]*\]/@/g' 's/\([:,[]\){[^][{}@]*}/\1@/g' 'y/@/~/'
        level=$((level + 1))
    done
    printf '%s\n' ':end' 's/^(/{/' 's/)$/}/'
} | tr '@' '\001' > "$work/nested.sed"
flatten() {                 # lines of JSON -> such rows; all bytes must be printable
    { sed -f "$work/strings.sed" | tr '\012<>' '\001\012\012'; echo; } | sed -f "$work/inside.sed" | tr -d '\012' |
        tr '\001' '\012' | sed -f "$work/nested.sed"
}
# Each key of numbered rows with the row's number behind it.
cat > "$work/keys.sed" <<'SED'
/^[0-9]/b
s/>:<[^<>]*>/>/g
s/>:[^,<>]*/>/g
s/^{//
s/}$//
s/>,</>\
</g
SED
cat > "$work/numbered.sed" <<'SED'
/^[0-9]/{
h
d
}
G
s/\n/ /
SED
integer='(0|-?[1-9][0-9]*)'
text='<[^<>]*>'
row_form="^\\{<v>:1,<seq>:[1-9][0-9]*,<prev>:<[0-9a-f]{64}>,<type>:$text,<utc>:$text,<boottime_ns>:$integer,<boot_id>:$text,"
row_form="$row_form<clock_source>:$text,<clock_uncertainty_ms>:(null|$integer)(,$text:($integer|-?(0|[1-9][0-9]*)\\.(0|[0-9]*[1-9])|true|false|null|~|$text))*\\}\$"
line_form="^{[ -~]*}$tab\\(-\\|[A-Za-z0-9+/]*=\\{0,2\\}\\)\$"
group='[A-Za-z0-9+/]'
base64_form="^(-|($group{4})*($group{4}|$group{2}[AEIMQUYcgkosw048]=|$group[AQgw]==))\$"

number() {                  # NAME -> $number, of $row
    number=${row#*",<$1>:"}
    [ "$number" != "$row" ] || return 1
    number=${number%%[!0-9]*}
    is_number "$number" && case ${row#*",<$1>:$number"} in ,* | '}'*) ;; *) return 1 ;; esac
}
string() {                  # NAME -> $string, of $row
    string=${row#*",<$1>:<"}
    [ "$string" != "$row" ] || return 1
    string=${string%%">"*}
}
is_true() { case $row in *",<$1>:true"*) ;; *) false ;; esac; }
sum() { string "$1" && is_hash "$string"; }

# --- Times ----------------------------------------------------------------------------------------------------------
# Counted in microseconds since 1970: all years that have four digits fit into 64 bits with that.

month_number() {            # Jan -> 01
    case $1 in Jan) m=01 ;; Feb) m=02 ;; Mar) m=03 ;; Apr) m=04 ;; May) m=05 ;; Jun) m=06 ;; Jul) m=07 ;; Aug) m=08 ;; Sep) m=09 ;; Oct) m=10 ;; Nov) m=11 ;; *) m=12 ;; esac
}
as_stamp() {                # "Jan  1 00:00:00 2026 GMT" -> $stamp, YYYYMMDDhhmmss
    month_number "${1%% *}"
    # shellcheck disable=SC2086  # split into words on purpose; openssl wrote them
    set -- $1
    case $2 in ?) d=0$2 ;; *) d=$2 ;; esac
    stamp=$4$m$d$(printf %s "$3" | tr -d :)
}
utc_stamp() {               # the record's utc -> $stamp and $fraction, in microseconds; or false
    string utc
    case $string in
        [0-9][0-9][0-9][0-9]-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]Z) ;;
        *) return 1 ;;
    esac
    date=${string%T*} clock=${string#*T}; fraction=${clock#*.} clock=${clock%.*}
    year=${date%%-*} day=${date##*-} month=${date#*-}; month=${month%-*}
    case $month-$day-$clock in 00-* | 1[3-9]-* | *-00-* | *-3[2-9]-* | 0[2469]-31-* | 11-31-* | 02-30-* | *-2[4-9]:* | *:6?) return 1 ;; esac
    [ "$year" != 0000 ] || return 1
    if [ "$month-$day" = 02-29 ]; then
        leap=$((1$year - 10000))
        [ $((leap % 4)) -eq 0 ] && { [ $((leap % 100)) -ne 0 ] || [ $((leap % 400)) -eq 0 ]; } || return 1
    fi
    minutes=${clock#*:}
    stamp=$year$month$day${clock%%:*}${minutes%:*}${minutes#*:}
    fraction=$((1${fraction%Z} - 1000000))
}
# Both ways count years from March on, so that the day that some have more is the last of its year. The 1 in front of
# digits is because the shell takes 08 for octal.
as_epoch() {                # YYYYMMDDhhmmss -> $epoch, seconds since 1970
    year=$((1${1%??????????} - 10000)) left=${1#????}
    month=$((1${left%????????} - 100)) left=${left#??}
    day=$((1${left%??????} - 100)) left=${left#??}
    if [ "$month" -gt 2 ]; then month=$((month - 3)); else month=$((month + 9)) year=$((year - 1)); fi
    epoch=$((365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1 - 719468))
    epoch=$((epoch * 86400 + (1${left%????} - 100) * 3600))
    left=${left#??}
    epoch=$((epoch + (1${left%??} - 100) * 60 + 1${left#??} - 100))
}
as_date() {                 # seconds since 1970 -> $date, YYYY-MM-DDThh:mm:ss
    day=$(($1 / 86400 + 719468)) left=$(($1 % 86400))
    year=$((day / 146097 * 400)) day=$((day % 146097))
    part=$(((day - day / 1460 + day / 36524 - day / 146096) / 365))
    year=$((year + part)) day=$((day - 365 * part - part / 4 + part / 100))
    month=$(((5 * day + 2) / 153)) day=$((day - (153 * ((5 * day + 2) / 153) + 2) / 5 + 1))
    if [ "$month" -lt 10 ]; then month=$((month + 3)); else month=$((month - 9)) year=$((year + 1)); fi
    date=$(printf '%04d-%02d-%02dT%02d:%02d:%02d' "$year" "$month" "$day" $((left / 3600)) $((left / 60 % 60)) $((left % 60)))
}
as_moment() {               # microseconds since 1970 -> $moment, for people
    as_date $(($1 / 1000000)); moment=$date.$(printf %03d $(($1 / 1000 % 1000)))Z
}
as_difference() {           # microseconds -> $difference, +1.5 s
    if [ "$1" -lt 0 ]; then difference=-$(((50000 - $1) / 1000000)).$(((50000 - $1) / 100000 % 10))
    else difference=+$((($1 + 50000) / 1000000)).$((($1 + 50000) / 100000 % 10)); fi
    difference="$difference s"
}

# --- The package's files --------------------------------------------------------------------------------------------

id= device=
if plain PACKAGE.txt && [ "$(head -c 300 PACKAGE.txt | wc -l)" -eq 3 ]; then
    { IFS= read -r version; IFS= read -r device; IFS= read -r id; } < PACKAGE.txt
    device=${device#Device: } id=${id#Recording: }
    case $id in *[!0-9a-f-]*) id= ;; ????????-????-????-????-????????????) ;; *) id= ;; esac
    case $device in *[!A-Za-z0-9._-]*) id= ;; esac
    printf 'Evidence-Package: 1\nDevice: %s\nRecording: %s\n' "$device" "$id" | cmp -s - PACKAGE.txt || {
        case $version in
            'Evidence-Package: 1') ;;
            *) fail PACKAGE_VERSION "PACKAGE.txt does not say that this is an evidence package of version 1; this check knows no other." ;;
        esac
        id=
    }
fi
[ -n "$id" ] || fail PACKAGE_INCOMPLETE "PACKAGE.txt is not there or does not say in its three lines which recording this is."
echo "Evidence package of recording ${id:-?}, camera $(printable "${device:-?}")"

: > "$work/present"
strange_file() { fail_of "$path" FILE_UNKNOWN "$(printable "$path") is a file that no package has."; }
look() {                    # every name in a folder, "" or "journal/" or "device/"
    for path in "$1"* "$1".[!.]* "$1"..?*; do
        [ -e "$path" ] || [ -L "$path" ] || continue
        case $path in
            journal | device) if folder "$path"; then continue; fi ;;
            "$1".?*.part) if [ ! -d "$path" ]; then note FILE_UNKNOWN "$(printable "$path") is left over from an interrupted copy and is no part of it."; continue; fi ;;
        esac
        case ${path#"$1"} in
            [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) fail_of "$path" FILE_UNKNOWN "$(printable "$path") is a name that no package has." ;;
            *) if folder "$path"; then fail_of "$path" FILE_UNKNOWN "$path is a folder that no package has."; continue; fi
               printf '%s\n' "$path" >> "$work/present" ;;
        esac
        case $path in
            journal/[0-9][0-9][0-9][0-9][0-9][0-9].journal | device/chain.pem | device/root.pem) ;;
            device/chain-*.pem) kept=${path#device/chain-}; is_hash "${kept%.pem}" || strange_file ;;
            journal/* | device/*) strange_file ;;
        esac
    done
}
look ""
for inner in journal device; do
    if folder "$inner"; then look "$inner/"
    elif [ -L "$inner" ] || [ -e "$inner" ]; then fail FOLDER_NOT_PLAIN "$inner is a link, or no folder: nothing behind it was looked at."
    else fail PACKAGE_INCOMPLETE "There is no folder $inner in it."; fi
done
for name in PACKAGE.txt README.txt VERIFY.txt verify.sh support.json support.txt recording.json device/chain.pem; do
    { [ "$name" != device/chain.pem ] || folder device; } && plain "$name" || fail PACKAGE_INCOMPLETE "$name is not there or not a plain file."
done

if ! plain SHA256SUMS; then
    fail PACKAGE_INCOMPLETE "There is no SHA256SUMS, which is written last: copying the package was interrupted."
else
    bytes_of SHA256SUMS
    [ "$size" -le 16777216 ] || stop "SHA256SUMS is larger than any real one"
    : > "$work/listed"
    if [ "$(tr -d '\012\040-\176' < SHA256SUMS | wc -c)" -ne 0 ]; then fail_of SHA256SUMS PACKAGE_SUM "SHA256SUMS holds bytes that are not text."
    elif [ -n "$(tail -c 1 SHA256SUMS)" ]; then fail_of SHA256SUMS PACKAGE_SUM "SHA256SUMS does not end with a whole line."
    else
        sum_form='^[0-9a-f]{64}  [A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$'
        bad=$(grep -n -v -E "$sum_form" SHA256SUMS | head -n 1 | cut -d : -f 1)
        [ -z "$bad" ] || fail_of SHA256SUMS PACKAGE_SUM "Line $bad of SHA256SUMS is not a file's hash."
        grep -E "$sum_form" SHA256SUMS > "$work/listed"
    fi
    cut -c 67- "$work/listed" | sort > "$work/names"
    uniq -d "$work/names" > "$work/twice"
    [ ! -s "$work/twice" ] || fail_of SHA256SUMS PACKAGE_SUM "SHA256SUMS lists $(head -n 1 "$work/twice") twice."
    # One pass over both lists, sorted into one another: a look-up for each name would take their product.
    { sed 's/$/ -/' "$work/present"; sed 's/^\(.\{64\}\)  \(.*\)$/\2 \1/' "$work/listed"; echo '~ -'; } | sort | uniq > "$work/both"
    there= summed=/
    while read -r name wanted; do
        if [ "$wanted" = - ]; then
            case ${summed:-$there} in / | SHA256SUMS) ;; *) fail_of "$there" FILE_UNKNOWN "$there is in the package but not in SHA256SUMS." ;; esac
            there=$name summed=
            continue
        fi
        [ "$name" != "$there" ] || summed=/
        case $name in journal/* | device/*) ;; */*) fail_of "$name" PACKAGE_SUM "$name is in SHA256SUMS; no package has such a folder."; continue ;; esac
        if [ "$name" != "$there" ]; then
            fail_of "$name" PACKAGE_SUM "$name is in SHA256SUMS but not in the package."
        elif ! plain "$name"; then
            fail_of "$name" PACKAGE_SUM "$name is not a plain file and was not opened."
        else
            progress "Hashing $name"
            is=$(hash < "$name")
            [ "$is" = "$wanted" ] || fail_of "$name" PACKAGE_SUM "$name is not the file that SHA256SUMS was made of."
            case $name in */*) ;; *) bytes_of "$name"; echo "$size $is" > "$work/sum/$name" ;; esac
        fi
    done < "$work/both"
fi
# What SHA256SUMS leaves out is hashed too: it is compared with the log all the same.
for name in init.mp4 [0-9][0-9][0-9][0-9][0-9][0-9].m4s [0-9][0-9][0-9][0-9][0-9][0-9].m4s.age; do
    if plain "$name" && [ ! -f "$work/sum/$name" ]; then bytes_of "$name"; echo "$size $(hash < "$name")" > "$work/sum/$name"; fi
done

# --- Certificates ---------------------------------------------------------------------------------------------------
# Every certificate of every chain in device/ stands ready under its hash; the log says which one signs.

# A chain is certificates in PEM, written as openssl writes them, and nothing else: whoever put it there wrote it so, and
# headers and other things between the lines could make openssl ask for a passphrase.
pem_form='^(-----(BEGIN|END) CERTIFICATE-----|[A-Za-z0-9+/]{1,64}={0,2})$'

take_chain() {              # FILE: its certificates, to $work/new and into $work/new.pem; or false, when it is said why not
    rm -rf "$work/new"; mkdir "$work/new"
    : > "$work/new.pem"
    bytes_of "$1"
    if [ "$size" -gt "$MAX_PEM_BYTES" ]; then fail CERT_UNKNOWN "$1 is larger than any chain."; return 1; fi
    if [ "$(grep -c -e '^-----BEGIN' "$1")" -gt "$MAX_CERTIFICATES" ]; then
        fail CERT_UNKNOWN "$1 holds far more certificates than any chain."; return 1
    fi
    sound=1 inside=
    if grep -q -v -E -e "$pem_form" "$1"; then sound=; fi
    while [ -n "$sound" ] && IFS= read -r line; do
        case $line in -----BEGIN*) : > "$work/one.pem" ;; esac
        printf '%s\n' "$line" >> "$work/one.pem"
        case $line in -----END*) ;; *) inside=1; continue ;; esac
        inside=
        # The passphrase is empty and stdin is shut, should openssl ever ask.
        if openssl x509 -in "$work/one.pem" -passin pass: -out "$work/again.pem" < /dev/null 2> /dev/null; then
            cat "$work/again.pem" >> "$work/new.pem"
            sed '/^-/d' "$work/again.pem" | tr -d '\012' | decode > "$work/one.der"
            mv "$work/again.pem" "$work/new/$(hash < "$work/one.der")"
        else sound=; fi
    done < "$1"
    [ -n "$sound" ] && [ -z "$inside" ] && [ -s "$work/new.pem" ] && cmp -s "$work/new.pem" "$1" || {
        fail CERT_UNKNOWN "$1 does not hold certificates in PEM, or something besides."; return 1; }
}

number_of_chains=0
: > "$work/all.pem"
: > "$work/one.pem"
for path in device/chain.pem device/chain-*.pem; do
    folder device && plain "$path" || continue
    kept=${path#device/chain-}
    [ "$path" = device/chain.pem ] || is_hash "${kept%.pem}" || continue
    number_of_chains=$((number_of_chains + 1))
    if [ "$number_of_chains" -gt "$MAX_CERTIFICATES" ]; then fail CERT_UNKNOWN "There are far more chains in device/ than any camera has."; break; fi
    take_chain "$path" || continue
    mv "$work/new/"* "$work/certificate/"
    cat "$work/new.pem" >> "$work/all.pem"
done

# --- The log --------------------------------------------------------------------------------------------------------

chain_line() {              # NAME: form of all lines of a journal file, in $work/lines; leaves $work/rows
    [ "$(tr -d '\011\012\040-\176' < "$work/lines" | wc -c)" -eq 0 ] || { bad_line "it holds bytes that are not printable ASCII"; return 1; }
    bad=$(grep -n -v "$line_form" "$work/lines" | head -n 1 | cut -d : -f 1)
    [ -z "$bad" ] || { bad_line "line $bad is not JSON, a TAB and base64"; return 1; }
    bad=$(cut -s -f 2 "$work/lines" | grep -n -v -E "$base64_form" | head -n 1 | cut -d : -f 1)
    [ -z "$bad" ] || { bad_line "the signature column of line $bad is not base64 in its one form"; return 1; }
    cut -s -f 1 "$work/lines" > "$work/json-lines"
    [ "$(tr -d -c '][{}\012' < "$work/json-lines" | cut -b "$((MAX_BRACKETS + 1))-" | tr -d '\012' | wc -c)" -eq 0 ] ||
        { bad_line "a record is nested or listed beyond any real one"; return 1; }
    flatten < "$work/json-lines" > "$work/rows"
    [ "$(cut -b "$((MAX_ROW_BYTES + 1))-" "$work/rows" | tr -d '\012' | wc -c)" -eq 0 ] || { bad_line "a record holds more text than any real one"; return 1; }
    bad=$(grep -n -v -E "$row_form" "$work/rows" | head -n 1 | cut -d : -f 1)
    [ -z "$bad" ] || { bad_line "line $bad is not written as records of version 1 are"; return 1; }
    bad=$(sed = "$work/rows" | sed -f "$work/keys.sed" | sed -f "$work/numbered.sed" | sort | uniq -d | head -n 1)
    bad=${bad##* }
    [ -z "$bad" ] || { bad_line "line $bad has the same key twice"; return 1; }
}
# Which records are not counted with such a file nobody knows: it is about any.
bad_line() { about=-; fail JOURNAL_LINE_BAD "$name is not a journal: $1."; about=$records; }

open_row() {                # FILE -> $row, its first record, or fails
    [ -f "$work/opening/$1" ] ||
        head -n 1 "journal/$1" | head -c 8192 | cut -s -f 1 | tr -d -c '\012\040-\176' | flatten | grep -E "$row_form" > "$work/opening/$1"
    IFS= read -r row < "$work/opening/$1" && case $row in *",<type>:<journal-open>,"*) ;; *) false ;; esac
}

records=0 first_seq= head= expected_seq= pending=0 pending_from= certificate= certificate_sha256= device_id=
introduced= recipients= enrolled= unknown_types= signed=0 covered_by_later=0 others= boot= boottime=0
first_own= last_own= covers=        # the first and last record of the recording, and the one whose signature covers the last
fps_milli=
: > "$work/mine"
: > "$work/reigns"          # where which certificate begins to sign
: > "$work/hashes"
: > "$work/keys"
: > "$work/certificates-used"

journal_file() {            # NAME NEXT
    name=$1 about=$records
    bytes_of "journal/$name"
    if [ "$size" -gt "$MAX_JOURNAL_BYTES" ]; then bad_line "it is larger than any journal file"; head=; return; fi
    keep=$size
    if [ -n "$2" ]; then
        if ! open_row "$2" || ! string prev_file || ! number prev_file_bytes; then bad_line "the next file, $2, does not say how it ends"; head=; return; fi
        [ $((1${2%.journal} - 1${name%.journal})) -eq 1 ] && [ "$string" = "$name" ] || {
            fail JOURNAL_FILE_MISSING "The journal file $2 does not follow on $name."; head=; }
        keep=$number
        if [ "$keep" -gt "$size" ]; then
            fail JOURNAL_FILE_MISSING "The journal file $name has $size bytes; $keep belong to the chain, as $2 says."; keep=$size
        fi
        tail -c "+$((keep + 1))" "journal/$name" > "$work/torn"
        torn=$((size - keep))
        if is_true torn_exact; then
            if ! sum torn_sha256 || ! number torn_bytes || [ "$torn" -ne "$number" ] || [ "$(hash < "$work/torn")" != "$string" ]; then
                fail TORN_TAIL_MISMATCH "What follows the records of $name is not what $2 names."
            elif tr -c '\011\012\040-\176' '?' < "$work/torn" | grep -q '^{"v":1,"seq":[0-9]*,"prev":"[0-9a-f]\{64\}",.*}'"$tab"'[-A-Za-z0-9+/=]*$'; then
                warn TORN_TAIL_RECORDS "The $torn bytes that $2 declares torn at the end of $name hold whole records behind a damaged one: a torn write can do that, and so can someone who damaged the file."
            elif [ "$torn" -gt 0 ]; then note TORN_TAIL "$name ends in an interrupted line of $torn bytes, as $2 says."; fi
        elif [ "$torn" -gt 0 ]; then fail TORN_TAIL_MISMATCH "$name ends in $torn bytes behind its chained part, which a package leaves out: somebody put them there."; fi
    fi
    head -c "$keep" "journal/$name" > "$work/lines"
    # Before anything that holds a line in memory: fold does not, and breaks none that is short enough.
    [ "$(fold -b -w "$MAX_LINE_BYTES" "$work/lines" | wc -l)" -eq "$(wc -l < "$work/lines")" ] ||
        { bad_line "a line is longer than 1 MiB"; head=; return; }
    unfinished=
    if [ ! -s "$work/lines" ] || [ -n "$(tail -c 1 "$work/lines" | tr '\000' x)" ]; then
        bad_line "its records do not end with a whole line"; unfinished=1
        sed '$d' "$work/lines" > "$work/whole"; cat "$work/whole" > "$work/lines"
    fi
    chain_line || { head=; return; }
    line=0
    while IFS=$tab read -r json signature <&3 && IFS= read -r row <&4; do
        line=$((line + 1))
        one_record
    done 3< "$work/lines" 4< "$work/rows"
    [ -z "$unfinished" ] || head=
}

one_record() {              # $json $signature $row $name $line
    rest=${row#"{<v>:1,<seq>:"}; seq=${rest%%,*}
    rest=${rest#*",<prev>:<"}; prev=${rest%%">"*}
    rest=${rest#*",<type>:<"}; type=${rest%%">"*}
    is_number "$seq" || { bad_line "line $line has a number that no record has"; head=; return; }
    printf %s "$json" > "$work/json"
    about=$((records + 1)) seq_before=$((${expected_seq:-1} - 1)) kind=$type
    case $kind in '' | *[!a-z-]* | ?????????????????????????*) kind="type-unknown" ;; esac
    if [ -n "$head" ]; then
        broken=1
        if [ "$seq" -ne "$expected_seq" ]; then occurs JOURNAL_SEQ
        elif [ "$prev" != "$head" ]; then occurs JOURNAL_CHAIN_BROKEN
        else broken=; fi
    elif [ "$records" -gt 0 ]; then broken=1     # something before it could not be read
    else broken=; first_seq=$seq; fi
    if [ -n "$broken" ] && [ "$pending" -gt 0 ]; then
        echo "$pending_from $pending_start $records $seq_before $kind_before" >> "$work/runs/SIGNATURE_UNCOVERED"
        pending=0
    fi
    [ -z "$broken" ] || no_timestamps_across
    records=$((records + 1)) about=$records kind_before=$kind fits=; expected_seq=$((seq + 1)); head=$(hash < "$work/json")
    echo "$seq $head" >> "$work/hashes"
    if [ "$line" -eq 1 ]; then opening; elif [ "$type" = journal-open ]; then
        fail JOURNAL_LINE_BAD "$name line $line: a journal-open record stands in the middle of a file."; fi
    if [ "$signature" != - ] && [ -n "$certificate" ]; then
        printf %s "$signature" | decode > "$work/p7s" 2> /dev/null
        # -noverify: only whether this certificate's key signed; where the certificate leads to is judged once, below.
        if openssl cms -verify -noverify -binary -nointern -inform DER -in "$work/p7s" -content "$work/json" \
            -certfile "$certificate" -out /dev/null 2> /dev/null; then
            signed=$((signed + 1)) fits=1; covered_by_later=$((covered_by_later + pending)); pending=0
            utc_seen
            # What is said of the next certificate counts only when this key signed it.
            if [ "$type" = certificate-changed ]; then
                if sum certificate_sha256; then introduced=$string; else fail RECORD_INVALID "Record $seq: it names no certificate."; fi
            fi
        else
            occurs SIGNATURE_BAD
            pending=$((pending + 1))
        fi
    else pending=$((pending + 1)); fi
    [ "$pending" -ne 1 ] || pending_from=$records pending_start="$seq_before $seq $kind $name:$line"
    if [ $((records % 100)) -eq 0 ]; then progress "Checking the log: $records records"; fi

    if string boot_id && number boottime_ns; then
        if [ "$type" != journal-open ]; then
            if [ "$string" = "$boot" ] && [ "$number" -lt "$boottime" ]; then
                warn TIME_BACKWARDS "$name line $line: the boot clock goes back; no working camera writes that."; fi
            boot=$string boottime=$number
        fi
    else fail RECORD_INVALID "Record $seq: its boottime_ns is no time."; fi
    case $type in
        journal-open | config | clock | ready | trigger | trigger-pending | recording-open | checkpoint | segment | gap | \
        marker | stop | recording-close | fault | fault-cleared | offload | shutdown | self-test | sound-missing | storage | \
        trigger-dropped | certificate-changed | settled | scrub) ;;
        boot) remembered ;;
        encryption) enrolment ;;
        records-lost) warn RECORDS_LOST "$name line $line: the camera says that some records could not be kept before this one." ;;
        timestamp) timestamp ;;
        *) unknown_types=$((unknown_types + 1)) ;;
    esac
    case $type in checkpoint | segment) if [ -n "$enrolled" ] && string file; then
        case $string in
            *.age) [ -n "$recipients" ] || fail RECORD_INVALID "Record $seq: its file is encrypted, though the camera was not enrolled to encrypt." ;;
            *) [ -z "$recipients" ] || fail RECORD_INVALID "Record $seq: its file is not encrypted, though the camera was enrolled to encrypt." ;;
        esac
    fi ;; esac
    case $row in
        *",<recording_id>:<$id>"*) if [ "$type" != offload ]; then
            mine_device=${mine_device:-$device_id}
            first_own=${first_own:-$records} last_own=$records covers=
            [ "$type" != recording-open ] || frame_rate
            printf '%s %s %s %s\n' "$records" "$seq" "$type" "$row" >> "$work/mine"
            claims_time
        fi ;;
        *",<recording_id>:"*) others=1 ;;
    esac
    if [ -n "$fits" ]; then covers=${covers:-$records}; fi
}
occurs() {                  # CODE: this record is wrong in that way; with those next to it that are, too, it is said below
    echo "$about $seq_before $seq $kind $name:$line $about $seq $kind" >> "$work/runs/$1"
}
say_run() {                 # the run of records $run_from to $run_to that $code is about
    about=$run_from about_until=$run_to
    if [ "$run_from" -eq "$run_to" ]; then
        which="ecord $run_seq ($run_kind, ${run_place%:*} line ${run_place#*:})"
        case $code in
            JOURNAL_SEQ) fail "$code" "R$which follows on record $run_before: records were removed, added or moved." ;;
            JOURNAL_CHAIN_BROKEN) fail "$code" "R$which does not hold the hash of the record before it: one of the two was changed." ;;
            SIGNATURE_BAD) fail "$code" "The signature of r$which does not fit it: it was changed, or another key signed it." ;;
            *) fail "$code" "R$which has no valid signature, and the chain that would cover it is broken behind it." ;;
        esac
    else
        which="ecords $run_seq to $run_last ($run_kind to $run_last_kind, ${run_place%:*} from line ${run_place#*:} on)"
        case $code in
            JOURNAL_SEQ) fail "$code" "R$which do not follow on one another, nor on record $run_before: records were removed, added or moved." ;;
            JOURNAL_CHAIN_BROKEN) fail "$code" "R$which do not hold the hash of the record before each: records were changed." ;;
            SIGNATURE_BAD) fail "$code" "The signatures of r$which do not fit them: they were changed, or another key signed them." ;;
            *) fail "$code" "R$which have no valid signature, and the chain that would cover them is broken among or behind them." ;;
        esac
    fi
    about=- about_until=
}
say_runs() {                # neighbours that are wrong in one way are said in one sentence
    for code in JOURNAL_SEQ JOURNAL_CHAIN_BROKEN SIGNATURE_BAD SIGNATURE_UNCOVERED; do
        [ -f "$work/runs/$code" ] || continue
        run_from=
        while read -r from before seq kind place to last last_kind; do
            if [ -z "$run_from" ] || [ "$from" -ne $((run_to + 1)) ]; then
                [ -z "$run_from" ] || say_run
                run_from=$from run_before=$before run_seq=$seq run_kind=$kind run_place=$place
            fi
            run_to=$to run_last=$last run_last_kind=$last_kind
        done < "$work/runs/$code"
        say_run
    done
}
frame_rate() {              # of the record that opens the recording -> $fps_milli, frames in a thousand seconds
    # Within a string the quotation marks would be behind a backslash.
    fps=$(sed -n 's/^.*,"video":{[^{}]*"fps":\([0-9]\{1,4\}\(\.[0-9]*\)\{0,1\}\)[,}].*$/\1/p' "$work/json")
    is_number "${fps%%.*}" || return 0
    part=${fps#"${fps%%.*}"}000; part=${part#.}
    fps_milli=$((${fps%%.*} * 1000 + 1${part%"${part#???}"} - 1000))
}

remembered() {              # at a start: what the camera remembers of its card outside of it
    case $row in *",<witness>:"*) ;; *) return ;; esac
    string witness && case $string in
        agrees | told | out-of-reach | absent | unreadable) return ;;
        another-journal | lost | differs) ;;
        *) false ;;
    esac || { fail RECORD_INVALID "Record $seq: its witness is none there is."; return; }
    outcome=$string
    if [ "$outcome" = another-journal ]; then
        number witness_seq || { fail RECORD_INVALID "Record $seq: its witness_seq is no number."; return; }
        note CARD_CHANGED "$name line $line: when the camera started, the card in it was another than the one it remembered, or had been emptied. That one had confirmed records up to $number of another log, which are not here."
        return
    fi
    number witness_found_seq && found_seq=$number && number witness_seq && [ "$found_seq" -lt "$seq" ] && sum witness_sha256 &&
        case $outcome in lost) [ "$found_seq" -lt "$number" ] ;; *) [ "$found_seq" -ge "$number" ] ;; esac || {
        fail RECORD_INVALID "Record $seq: what its witness remembers and what was found contradict each other."; return; }
    if [ "$outcome" = lost ]; then what="records $((found_seq + 1)) to $number"; else what="the record $number with SHA-256 $string"; fi
    warn CONFIRMED_LOST "$name line $line: when the camera started, its card did not have $what, which it had confirmed before, by what the camera remembers outside of it. The card lost what it had said was written, or an earlier state of it was put back."
}
enrolment() {               # to whom the camera encrypts from here on
    case $row in *",<recipients>:~"*) ;; *) fail RECORD_INVALID "Record $seq: its recipients are no list."; return ;; esac
    string reason && case $string in first | unchanged | re-enrolled) ;; *) false ;; esac || {
        fail RECORD_INVALID "Record $seq: its reason is not one there is."; return; }
    old=$recipients
    recipients=$(printf '%s\n' "$json" | sed -n 's/^.*,"recipients":\[\([^][]*\)\].*$/\1/p' | tr ',' '\012' | sort | uniq)
    if [ -z "$enrolled" ] || [ "$recipients" = "$old" ]; then enrolled=1
    elif [ "$string" = re-enrolled ]; then
        warn ENCRYPTION_CHANGED "$name line $line: the camera was re-enrolled: from record $seq on it encrypts to other keys, or no longer."
    elif [ -n "$old" ] || [ "$string" != first ]; then
        fail RECORD_INVALID "Record $seq: it names other recipients than the one before it, and is no re-enrolment."
    fi
}

opening() {                 # the first record of a file says under which certificate it is signed
    if [ "$type" != journal-open ] || ! string file; then
        fail JOURNAL_LINE_BAD "$name does not begin with a journal-open record."; certificate=; reigns -; return
    fi
    misnamed_until $((records - 1))
    [ "$string" = "$name" ] || fail JOURNAL_FILE_MISSING "The journal file $name says in its first record that it is another."
    string reason
    case $string in
        first | started | recovered)
            # A start goes on from what it finds on the card; while one process runs, it holds the hash of what it wrote.
            if [ "$pending" -gt 0 ]; then
                about=$pending_from
                note SIGNATURE_LATE "$pending record(s) before $name had no signature when the camera was started again. Its signer failed up to the end of the run before, or somebody who had the card wrote them meanwhile: the signatures behind them cannot tell."
                echo "$pending_from $((records - 1))" >> "$work/late"
                about=$records
            fi ;;
        *) [ "$records" -ne 1 ] ||
            fail JOURNAL_FILE_MISSING "The journal file $name begins in the middle of a run; an extract begins where the camera started." ;;
    esac
    if string key; then grep -q -x -F -e "$string" "$work/keys" || printf '%s\n' "$string" >> "$work/keys"; fi
    if ! string device_id || ! sum certificate_sha256; then fail RECORD_INVALID "Record $seq: it does not say whose it is."; certificate=; reigns -; return; fi
    before=
    [ "$string" = "$certificate_sha256" ] || before=$certificate
    certificate_sha256=$string
    reigns "$string"
    string device_id
    [ "$string" = "$device_id" ] || [ -z "$device_id" ] || warn CERT_CHANGED "From $name on the camera calls itself by another name."
    device_id=$string
    certificate=$work/certificate/$certificate_sha256
    grep -q -x "$certificate_sha256" "$work/certificates-used" || echo "$certificate_sha256" >> "$work/certificates-used"
    if [ ! -f "$certificate" ]; then certificate=
    else
        common_name=$(openssl x509 -in "$certificate" -noout -subject -nameopt multiline 2> /dev/null | sed -n 's/^ *commonName *= //p' | head -n 1)
        [ "$common_name" = "$device_id" ] || {
            misnamed="$name names another camera than its certificate, which is for $(printable "$common_name")." misnamed_from=$records; }
        if [ -z "$before" ]; then :
        elif [ "$introduced" = "$certificate_sha256" ]; then
            note CERT_CHANGED "From $name on another certificate signs; the key before introduced it."
        elif [ "$(openssl x509 -in "$before" -noout -pubkey)" = "$(openssl x509 -in "$certificate" -noout -pubkey)" ]; then
            note CERT_CHANGED "From $name on another certificate signs; it is for the same key."
        else
            about_until=999999999       # all that this key signs
            warn CERT_NOT_INTRODUCED "From $name on another key signs, and no record that the key before signed introduces it: only its issuer says that it is the same camera. Ask the department when and why this camera was given another key."
            about_until=
        fi
    fi
    introduced=
}

misnamed_until() {          # the last record under a certificate for another camera
    [ -z "$misnamed" ] || { about=$misnamed_from about_until=$1; warn CERT_NAME "$misnamed"; misnamed= about=$records about_until=; }
}
misnamed=
reigns() { echo "$records $seq $seq_before $1" >> "$work/reigns"; }      # SHA-256 of the certificate, - for none
utc_seen() {                # first and last claimed time of what was signed under each certificate, as YYYYMMDDhhmmss
    utc_stamp || { fail RECORD_INVALID "Record $seq: its utc is no time."; return; }
    if [ ! -f "$work/chain/$certificate_sha256" ]; then echo "$stamp" > "$work/chain/$certificate_sha256"
    else echo "$stamp" >> "$work/chain/$certificate_sha256"; fi
}

# --- Timestamps -----------------------------------------------------------------------------------------------------
# A token of a time authority (RFC 3161) over the hash of a record: that record and all before it existed when it was
# made, and what stands behind the token's own record was written later. The first record of the recording comes after
# the last token before it, and its closing record before the first token that is over it or one behind it.

timestamps=0                # of any kind
latest=                     # the last token that counts: until when it was made; empty when there is none
last_stamped=0 last_response=
claims= close_seq= waiting= # of the recording: its first and last record's claims of time; its closing record
not_before= existed_by=
mine_device=
: > "$work/late"
: > "$work/no.cnf"          # openssl ts wants a configuration, and not every computer has one
printf 'Status info:\nStatus: Granted.\n' > "$work/granted"
if [ "$tsa" != - ]; then
    number_of_roots=0 inside=
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '-----BEGIN CERTIFICATE-----'*) inside=1 number_of_roots=$((number_of_roots + 1)) ;; esac
        [ -z "$inside" ] || printf '%s\n' "$line" >> "$work/authority/$number_of_roots.pem"
        case $line in '-----END CERTIFICATE-----'*) inside= ;; esac
    done < "$tsa"
    [ "$number_of_roots" -gt 0 ] || stop "there is no certificate between BEGIN CERTIFICATE and END CERTIFICATE in $tsa"
fi

no_timestamps_across() {    # a broken chain: a token says nothing of what is on the other side
    : > "$work/hashes"
    latest= waiting=
}
hex() {                     # 0x01F4, or unspecified -> $hex, of at most 8 digits
    hex=0
    case $1 in
        unspecified) return ;;
        0x) return 1 ;;
        0x*) case ${1#0x} in *[!0-9A-F]* | ?????????*) return 1 ;; esac ;;
        *) return 1 ;;
    esac
    hex=$(($1))
}
as_accuracy() {             # "Accuracy: 0x01 seconds, 0x01F4 millis, unspecified micros" -> $accuracy, in microseconds
    accuracy=0
    case $1 in 'Accuracy: unspecified') return ;; 'Accuracy: '*' seconds, '*' millis, '*' micros') ;; *) return 1 ;; esac
    # shellcheck disable=SC2086  # split into words on purpose; openssl wrote them
    set -- ${1#Accuracy: }
    [ $# -eq 6 ] && hex "$1" && [ "$hex" -le "$MAX_ACCURACY_S" ] && accuracy=$((hex * 1000000)) &&
        hex "$3" && [ "$hex" -le 999 ] && accuracy=$((accuracy + hex * 1000)) &&
        hex "$5" && [ "$hex" -le 999 ] && accuracy=$((accuracy + hex))
}
read_token() {              # $response -> $imprint $epoch $accuracy; or false: no camera takes such a one
    printf '%s\n' "$response" | grep -q -E "$base64_form" && [ "$response" != - ] || return 1
    printf %s "$response" | decode > "$work/response" 2> /dev/null
    bytes_of "$work/response"
    [ "$size" -le "$MAX_TOKEN_BYTES" ] || return 1
    # Nothing follows on it: openssl would pass over that.
    length=$(openssl asn1parse -inform DER -in "$work/response" 2> /dev/null |
        sed -n '1s/^ *0:d=0 *hl= *\([0-9]\{1,6\}\) *l= *\([0-9]\{1,6\}\) cons: SEQUENCE *$/\1 \2/p')
    [ -n "$length" ] && [ $((${length% *} + ${length#* })) -eq "$size" ] || return 1
    openssl ts -reply -config "$work/no.cnf" -in "$work/response" -text 2> /dev/null | head -n 2 | cmp -s - "$work/granted" || return 1
    # The token without the status, whose text is the authority's: before these lines stands nothing that it chooses.
    openssl ts -reply -config "$work/no.cnf" -in "$work/response" -token_out -text 2> /dev/null |
        head -n 9 | tr -c '\012 -~' '?' | cut -b 1-200 > "$work/token"
    {
        IFS= read -r version && IFS= read -r _ && IFS= read -r algorithm && IFS= read -r message &&
            IFS= read -r half && IFS= read -r rest && IFS= read -r _ && IFS= read -r made && IFS= read -r accurate
    } < "$work/token" || return 1
    [ "$version, $algorithm, $message" = 'Version: 1, Hash Algorithm: sha256, Message data:' ] || return 1
    imprint=$(printf '%s\n%s\n' "$half" "$rest" | cut -b 12-58 | tr -d ' \012-')
    is_hash "$imprint" || return 1
    case $made in *.*) made="${made%%.*} ${made#*.* }" ;; esac
    case $made in
        "Time stamp: "*" 9999 GMT") return 1 ;;
        "Time stamp: "[A-Z][a-z][a-z]" "[" "1-3][0-9]" "[0-2][0-9]:[0-5][0-9]:[0-5][0-9]" "[2-9][0-9][0-9][0-9]" GMT") ;;
        *) return 1 ;;
    esac
    as_stamp "${made#Time stamp: }"
    as_epoch "$stamp"
    as_accuracy "$accurate"
}
believed() {                # whether it leads to a root that the examiner trusts, as of its own time; if not, $doubt and $why
    doubt=UNTRUSTED why="its authority does not lead to a root certificate that you trust"
    for anchor in "$work/authority"/*.pem; do
        # One root at a time: of two with the same name openssl takes the first. openssl ts trusts no other than this
        # one; what is no root in the examiner's file helps to lead to one.
        openssl ts -verify -config "$work/no.cnf" -digest "$imprint" -in "$work/response" -CAfile "$anchor" \
            -untrusted "$tsa" -attime "$epoch" > /dev/null 2> "$work/why" && return
        case $(cat "$work/why") in
            *"certificate has expired"* | *"certificate is not yet valid"*)
                doubt=EXPIRED why="a certificate of its authority was not valid then" ;;
            *"certificate verify error"*purpose*)
                [ "$doubt" != UNTRUSTED ] || doubt=BAD why="its authority has no certificate for timestamps" ;;
            *"certificate verify error"* | *"signer certificate not found"*) ;;
            *) [ "$doubt" != UNTRUSTED ] || doubt=BAD why="its signature does not verify" ;;
        esac
    done
    return 1
}
timestamp() {               # a record of that type
    timestamps=$((timestamps + 1))
    number head_seq && stamped=$number && sum head_sha256 && stamped_sum=$string && number requested_boottime_ns && asked=$number &&
        number boottime_ns && had=$number && [ "$asked" -le "$had" ] && string gen_time && said_time=$string && string response && response=$string || {
        fail RECORD_INVALID "Record $seq: it does not say what was stamped, and when."; return; }
    read_token || { fail TIMESTAMP_BAD "The timestamp in record $seq cannot be read, and no camera journals such a one."; return; }
    as_date "$epoch"; gen_time=${date}Z
    [ "$said_time" = "$gen_time" ] || { fail RECORD_INVALID "Record $seq: its gen_time is not that of its token ($gen_time)."; return; }
    misplaced=
    if [ "$imprint" != "$stamped_sum" ]; then misplaced="it is over something else than the hash that its record names"
    elif ! tail -n "$WINDOW_RECORDS" "$work/hashes" | grep -q -x -e "$stamped $stamped_sum"; then
        misplaced="record $stamped does not have the hash that it is over"
    elif [ "$stamped" -lt "$last_stamped" ] || [ "$response" = "$last_response" ]; then
        misplaced="it stands in the log a second time"
    fi
    [ -z "$misplaced" ] || { fail TIMESTAMP_REPLAYED "The timestamp in record $seq does not belong there: $misplaced."; return; }
    last_stamped=$stamped last_response=$response
    if [ "$tsa" != - ] && ! believed; then
        case $doubt in
            UNTRUSTED) warn TIMESTAMP_UNTRUSTED "The timestamp in record $seq, made $gen_time, does not count: $why." ;;
            EXPIRED) warn TIMESTAMP_EXPIRED "The timestamp in record $seq, made $gen_time, does not count: $why." ;;
            *) warn TIMESTAMP_BAD "The timestamp in record $seq, made $gen_time, does not count: $why." ;;
        esac
        return
    fi
    # genTime is cut to whole seconds, so it was made up to one later.
    counts $((epoch * 1000000 - accuracy)) $((epoch * 1000000 + 1000000 + accuracy)) $((asked / 1000)) $((had / 1000))
    if [ -n "$waiting" ] && [ "$close_seq" -le "$stamped" ]; then existed_by=$latest waiting=; fi
}
counts() {                  # EARLIEST LATEST, of its making; ASKED HAD, on the boot clock: compared with the one before
    string boot_id
    offset=$((($1 - $4 + $2 - $3) / 2)) half=$((($2 - $3 - $1 + $4) / 2)) middle=$((($3 + $4) / 2))
    if [ -z "$latest" ]; then :
    elif [ "$2" -lt "$earliest" ]; then
        warn TIMESTAMP_ORDER "The timestamp in record $seq says $gen_time and was asked for after the one in record $latest_seq, which says a later time: a time authority's clock was wrong."
    elif [ "$string" = "$latest_boot" ]; then
        moved=$((offset - latest_offset)) passed=$((middle - latest_middle))
        allowed=$((half + latest_half + ${passed#-} * UNSTEADY_PPM / 1000000))
        if [ "${moved#-}" -gt "$allowed" ]; then
            as_difference "$moved"
            warn TIME_RATE "Between the timestamps in records $latest_seq and $seq the authority's time and the camera's boot clock came apart by $difference; no working clock does that."
        fi
    fi
    earliest=$1 latest=$2 latest_seq=$seq latest_boot=$string latest_offset=$offset latest_half=$half latest_middle=$middle
}
claims_time() {             # a record of the recording
    if [ -z "$claims" ]; then not_before=${latest:+$earliest}
    elif [ "$type" != recording-close ] || [ -n "$close_seq" ]; then return; fi
    utc_stamp || { fail RECORD_INVALID "Record $seq: its utc is no time."; return; }
    case $row in
        *",<clock_uncertainty_ms>:null"*) number=0 ;;
        *) number clock_uncertainty_ms || { fail RECORD_INVALID "Record $seq: its clock_uncertainty_ms is no number."; return; } ;;
    esac
    # Ten thousand years are as good as any: more would not fit.
    [ "$number" -le 315569520000000 ] || number=315569520000000
    as_epoch "$stamp"
    string clock_source
    claims="$claims$((epoch * 1000000 + fraction)) $((number * 1000)) "
    [ "$type" != recording-close ] || close_seq=$seq waiting=1
    claimed_source=${claimed_source:-$(printable "$string")}
}
claimed_source=
proved() {                  # what timestamps say of the recording's time, once all of the log was read
    if [ "$timestamps" -gt 0 ] && [ "$tsa" = - ]; then
        note TIMESTAMP_UNCHECKED "$timestamps timestamp(s) of an authority stand in the log and were not checked against it; get its root certificate and say: sh verify.sh ROOT.pem PACKAGE-FOLDER TSA-ROOT.pem."
    fi
    [ "$timestamps" -gt 0 ] || [ "$tsa" != - ] || return 0
    [ -n "$claims" ] || return 0
    absent=
    [ -n "$not_before" ] || absent="no timestamp before it says when it cannot have been written yet"
    [ -n "$existed_by" ] || absent="$absent${absent:+, and }no timestamp after its end says by when it existed"
    if [ -z "$absent" ]; then :
    elif [ "$tsa" = - ]; then note TIMESTAMP_ABSENT "Its time is not bounded as it could be: $absent."
    else warn TIMESTAMP_ABSENT "Its time is not bounded as it could be: $absent."; fi
    # shellcheck disable=SC2086  # a time and its uncertainty, one or two times
    set -- $claims
    while [ $# -gt 0 ]; do
        if [ -n "$not_before" ] && [ "$1" -lt $((not_before - $2)) ]; then limit="was not written before" bound=$not_before
        elif [ -n "$existed_by" ] && [ "$1" -gt $((existed_by + $2)) ]; then limit="existed by" bound=$existed_by
        else shift 2; continue; fi
        as_difference $(($1 - bound)); as_moment "$bound"
        warn TIME_OUTSIDE_TIMESTAMPS "The camera's clock ($claimed_source) was off by $difference or more: by the timestamps, the recording $limit $moment."
        break
    done
}

set --
for path in journal/*; do
    folder journal && plain "$path" || continue
    case ${path#journal/} in
        [0-9][0-9][0-9][0-9][0-9][0-9].journal) set -- "$@" "${path#journal/}" ;;
        *) ;;               # was said when all names were looked at
    esac
done
[ $# -gt 0 ] || fail JOURNAL_MISSING "There is no journal, so nothing vouches for any of these files."
while [ $# -gt 0 ]; do
    journal_file "$1" "${2:-}"
    shift
done
misnamed_until 999999999
say_runs
about=-
[ "$covered_by_later" -eq 0 ] || note SIGNATURE_PENDING "$covered_by_later record(s) were written without a signature of their own because the signer was busy; signed records after them cover them."
proved
[ -z "$unknown_types" ] || note RECORD_TYPE_UNKNOWN "There are $unknown_types record(s) of types that this check does not know; their signatures and chain were checked, their content was not."
if [ "$records" -gt 0 ]; then
    note EXTRACT "The package holds records $first_seq to $((expected_seq - 1)) of the camera's log${others:+, which also name other recordings}; what the camera did before and after is not proved by it."
fi

# --- Whose certificate ----------------------------------------------------------------------------------------------

# The authorities that this computer trusts for other purposes are kept out of it; older versions know no store of them.
no_store=
if openssl verify -help 2>&1 | grep -q no-CAstore; then no_store=-no-CAstore; fi
trusted=$root
if [ "$root" = - ]; then
    trusted=
    if folder device && plain device/root.pem && take_chain device/root.pem; then
        note ROOT_FROM_EVIDENCE "The root certificate was taken from the evidence itself, where anyone could have put it; get the department's own."
        trusted=$work/root.pem
        cat "$work/new.pem" > "$trusted"
    else warn ROOT_ABSENT "There is no root certificate, so nothing says whose camera this is; get the department's."; fi
fi
# From which to which record each signed: those under which the recording stands answer for it, the others are noted.
echo "$((records + 1)) 0 $((${expected_seq:-1} - 1)) end" >> "$work/reigns"
: > "$work/reigned"
reigning=
while read -r from seq before sha256; do
    [ "$sha256" != "$reigning" ] || continue
    [ -z "$reigning" ] || echo "$reigns_from $((from - 1)) $reigns_seq $before $reigning" >> "$work/reigned"
    reigning=$sha256 reigns_from=$from reigns_seq=$seq
done < "$work/reigns"
reign() {                   # SHA-256 of a certificate -> $ranges, and $judge, fail or note
    ranges= judge=note reigned_from=
    while read -r from to seq last sha256; do
        [ "$sha256" = "$1" ] || continue
        ranges="$ranges${ranges:+, }$seq to $last" reigned_from=${reigned_from:-$from} reigned_until=$to
        if [ -z "$first_own" ] || { [ "$from" -le "${covers:-$records}" ] && [ "$to" -ge "$first_own" ]; }; then judge=fail; fi
    done < "$work/reigned"
}
facts() {                   # CERTIFICATE -> $work/facts: its dates, what it is signed with, its key, and what it is for
    # In this order: with a key that openssl does not know it goes no further, and only in extensions, which stand last,
    # can there be lines that somebody chose. Everything that names could stand in is left out of the text.
    openssl x509 -in "$1" -noout -startdate -enddate -text -certopt "$only_algorithm" -pubkey \
        -ext basicConstraints,keyUsage,extendedKeyUsage > "$work/facts" 2> /dev/null
}
fact() { sed -n "s/^ *$1//p" "$work/facts" | head -n 1; }     # BEGINNING: the rest of the first line that begins so
unfit() {                   # of the certificate in $work/facts -> $why, in what it is no camera's; or false
    # The first bytes of a public key's DER say what it is; the point on the curve, whole or compressed, follows on them.
    case $(sed -n '/^-----BEGIN PUBLIC KEY/{n;p;}' "$work/facts" | head -n 1) in
        MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE* | MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgAC* | MDkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDIgAD*) ;;
        *) why="it holds no ECDSA P-256 key"; return ;;
    esac
    case $(fact "Signature Algorithm: ") in
        ecdsa-with-SHA256 | ecdsa-with-SHA384 | ecdsa-with-SHA512) ;;
        sha256WithRSAEncryption | sha384WithRSAEncryption | sha512WithRSAEncryption | rsassaPss*) ;;
        *) why="it is signed with a hash that is not SHA-256, SHA-384 or SHA-512"; return ;;
    esac
    case $(extension "Basic Constraints") in *CA:FALSE*) ;; *) why="it is a CA's, or does not say that it is not"; return ;; esac
    case $(extension "Key Usage") in *"Digital Signature"*) ;; *) why="it does not say that it is for signatures (key usage)"; return ;; esac
    case $(extension "Extended Key Usage") in *"E-mail Protection"*) ;; *) why="it lacks the extended key usage emailProtection"; return ;; esac
    return 1
}
only_algorithm=no_subject,no_issuer,no_validity,no_pubkey,no_extensions,no_version,no_serial,no_sigdump,no_aux,no_header
extension() { sed -n "/^X509v3 $1:/,/^X/p" "$work/facts" | sed -n 2p; }
in_words() {                # what openssl said of a certificate in $work/why -> $why
    case $(sed -n 's/^error \([0-9]*\) at .*$/\1/p' "$work/why" | head -n 1) in
        2 | 20 | 21) why="none of the certificates here issued it" ;;
        18 | 19) why="it leads to another root" ;;
        7) why="the signature of its issuer does not fit it" ;;
        66 | 67 | 68) why="a certificate above it has a key or a hash that is too weak" ;;
        24 | 25 | 32 | 79) why="what issued it may not issue certificates" ;;
        26) why="it is not made for signing" ;;
        *) why="openssl does not accept it" ;;
    esac
}
while IFS= read -r used; do
    path=$work/certificate/$used
    reign "$used"
    if [ ! -f "$path" ]; then
        found "$judge" CERT_UNKNOWN "Records $ranges name the certificate with SHA-256 $used, which is not in device/; their signatures cannot be checked."
        continue
    fi
    facts "$path"
    if unfit; then
        found "$judge" CERT_CHAIN "The certificate with SHA-256 $used, under which records $ranges stand, is not fit for a camera: $why."
    elif [ -n "$trusted" ]; then
        # Whether it had expired is judged against the records' times, not against today.
        openssl verify -no_check_time -auth_level 2 -purpose smimesign -no-CApath ${no_store:+"$no_store"} -CAfile "$trusted" -untrusted "$work/all.pem" "$path" > /dev/null 2> "$work/why" || {
            in_words
            found "$judge" CERT_CHAIN "The certificate with SHA-256 $used, under which records $ranges stand, does not lead to the root certificate or is unfit: $why."
        }
    fi
    as_stamp "$(fact notBefore=)"; begin=$stamp
    as_stamp "$(fact notAfter=)"; end=$stamp
    if [ -f "$work/chain/$used" ]; then
        first=$(sort "$work/chain/$used" | head -n 1) last=$(sort "$work/chain/$used" | tail -n 1)
        about=$reigned_from about_until=$reigned_until
        [ "$first" -ge "$begin" ] || warn TIME_OUTSIDE_CERTIFICATE "Records claim times before their certificate became valid: the camera's clock was wrong then, or the certificate's maker's."
        about=- about_until=
        [ "$last" -le "$end" ] || found "$judge" TIME_OUTSIDE_CERTIFICATE "Records claim times after their certificate expired."
    fi
done < "$work/certificates-used"

# --- The recording's records against each other ---------------------------------------------------------------------

: > "$work/expected"
triggered= opened= closed= recovered= stop_reason= clock_source= clock_uncertainty= opened_utc= markers=0
fragment=0 end_media=0 gap_before= all_segments=0 all_fragments=0 all_frames=0 all_bytes=0 all_gaps=0 all_end=0
pre_event_ms=0 missing_places= places=0
open_files=0 cp_file= cp_bytes=0 cp_plain=0 first_mine= last_mine=0 sealed_at_start= trigger_journalled= encrypted_segments=0 sealed=

cannot_be() { fail RECORD_INVALID "Record $seq ($type) cannot be right: $1."; }
segment_file() {            # -> $string, a name that leads nowhere else
    string file || { cannot_be "it names no file"; return 1; }
    case $string in
        [0-9][0-9][0-9][0-9][0-9][0-9].m4s | [0-9][0-9][0-9][0-9][0-9][0-9].m4s.age) ;;
        *) fail FILE_NAME "Record $seq ($type) names a file as no segment is named; it was not opened."; return 1 ;;
    esac
    [ ! -f "$work/sealed/$string" ] || { cannot_be "it is about $string, which was sealed before"; return 1; }
    file=$string
}
is_encrypted() { case $file in *.age) ;; *) false ;; esac; }
plain_said() {              # -> $plain_bytes $plain_sum: what an encrypted file opens to, which nobody can see without a key
    number plain_bytes && plain_bytes=$number && sum plain_sha256 && plain_sum=$string || { cannot_be "it does not say what it opens to"; false; }
}
init_file() {
    string init_file && [ "$string" = init.mp4 ] || { fail FILE_NAME "Record $seq ($type) names another init_file than init.mp4; it was not opened."; return; }
    number init_bytes && sum init_sha256 || { cannot_be "it does not vouch for init.mp4"; return; }
    echo "init.mp4 $number $string init 0 $empty" >> "$work/expected"
}
lost_of() {                 # FILE BYTES -> $lost: from when to when in the recording what is missing behind them plays
    lost= lost_from=
    [ -f "$work/checkpoints/$1" ] || return 0
    while read -r _ b _ begin_90k end_90k _; do
        if [ "$b" -gt "$2" ]; then lost_from=${lost_from:-$begin_90k} lost_until=$end_90k; fi
    done < "$work/checkpoints/$1"
    if [ -n "$lost_from" ]; then span "$lost_from" "$lost_until"; lost=", $span of the recording"; fi
}
on_trigger() { [ -z "$triggered" ] || cannot_be "its recording was triggered before"; triggered=1; }
on_open() {
    [ -z "$opened" ] || { cannot_be "its recording was opened before"; return; }
    opened=1
    string utc; opened_utc=$string
    string clock_source; clock_source=$string
    if number clock_uncertainty_ms; then clock_uncertainty=$number; fi
    [ "$clock_source" = ntp ] || note TIME_UNSYNCHRONISED "Its wall time comes from a clock that the camera calls \"$clock_source\"."
    number configured_pre_event_ms || { cannot_be "it has no configured_pre_event_ms"; return; }
    configured=$number
    number actual_pre_event_ms || { cannot_be "it has no actual_pre_event_ms"; return; }
    pre_event_ms=$number
    if [ "$number" -lt "$configured" ]; then
        if string pre_event_short_reason; then note PRE_EVENT_SHORT "It begins $number ms before its trigger; $configured ms were configured (reason given: $string)."
        else warn PRE_EVENT_SHORT "It begins $number ms before its trigger; $configured ms were configured, and no reason is given."; fi
    fi
    if string sealed; then sealed=1; fi
    init_file
}
on_checkpoint() {
    segment_file || return
    [ -n "$opened" ] || { cannot_be "its recording was not opened before"; return; }
    number fragment && this=$number && number bytes && bytes=$number && number first_media_90k && begin=$number &&
        number end_media_90k && end=$number && number frames && frames=$number && number audio_frames && audio=$number &&
        sum sha256 && sha256=$string || { cannot_be "a field of it is absent or not what it must be"; return; }
    plain_bytes=0 plain_sum=-
    if is_encrypted; then plain_said || return; fi
    if [ "$file" != "$cp_file" ]; then
        cp_file=$file cp_bytes=0 cp_plain=0
        if [ -f "$work/checkpoints/$file" ]; then read -r _ cp_bytes _ _ _ _ _ cp_plain _ <<CHECKPOINT
$(tail -n 1 "$work/checkpoints/$file")
CHECKPOINT
        else open_files=$((open_files + 1)); fi
    fi
    [ "$bytes" -gt "$cp_bytes" ] && { ! is_encrypted || [ "$plain_bytes" -gt "$cp_plain" ]; } || { cannot_be "its bytes do not go on behind those before"; return; }
    [ "$this" -eq $((fragment + 1)) ] || fail FRAGMENT_COUNT "Record $seq: fragment $this follows on fragment $fragment."
    if [ "$end" -le "$begin" ] || [ "$begin" -lt "$end_media" ] || { [ "$begin" -gt "$end_media" ] && [ -z "$gap_before" ]; }; then
        seconds "$begin"
        fail MEDIA_TIME "Record $seq: fragment $this begins at $seconds s, not where the one before it ended, and no gap record says why."
    fi
    # As many frames as its length holds at this rate, to the nearest.
    if [ -n "$fps_milli" ] && [ $((end - begin)) -lt 90000000000 ] && [ "$frames" -lt $((((end - begin) * fps_milli + 45000000) / 90000000)) ]; then
        places=$((places + 1))
        if [ "$places" -le 5 ]; then span "$begin" "$end"; missing_places="$missing_places${missing_places:+, }$span"; fi
    fi
    printf '%s %s %s %s %s %s %s %s %s\n' "$this" "$bytes" "$sha256" "$begin" "$end" "$frames" "$audio" "$plain_bytes" "$plain_sum" >> "$work/checkpoints/$file"
    cp_bytes=$bytes cp_plain=$plain_bytes fragment=$this end_media=$end gap_before=
}
on_segment() {
    segment_file || return
    string state && state=$string && number bytes && bytes=$number && sum sha256 && sha256=$string || { cannot_be "a field of it is absent or not what it must be"; return; }
    : > "$work/sealed/$file"
    if is_encrypted; then encrypted_segments=$((encrypted_segments + 1)); fi
    last_plain=0 last_plain_sum=$empty
    count=0 cp_last=0 cp_sum=$empty cp_first= cp_end= cp_frames=0 cp_audio=0
    if [ -f "$work/checkpoints/$file" ]; then
        open_files=$((open_files - 1))
        while read -r _ b s m e f a p q; do
            count=$((count + 1)) cp_last=$b cp_sum=$s cp_first=${cp_first:-$m} cp_end=$e
            cp_frames=$((cp_frames + f)) cp_audio=$((cp_audio + a)) last_plain=$p last_plain_sum=$q
        done < "$work/checkpoints/$file"
    fi
    cp_file=
    all_segments=$((all_segments + 1)) all_bytes=$((all_bytes + bytes))
    checkpointed=$bytes checkpointed_sum=$sha256
    case $state in
        missing) lost_of "$file" 0; fail SEGMENT_MISSING "$file was gone when the camera started again, though $count fragment(s) of it had been signed$lost."; return ;;
        whole | torn | recovered) ;;
        *) cannot_be "its state is not one there is"; return ;;
    esac
    number fragments && fragments=$number && number frames && frames=$number && number audio_frames && audio=$number || { cannot_be "a count of it is absent"; return; }
    said="$bytes $sha256"
    if is_encrypted; then
        plain_said || return
        # Where nothing followed after all, a box and the mark of the end stand behind the last checkpoint.
        if [ "$state" = whole ] && [ "$count" -gt 0 ] && [ "$bytes" -gt "$cp_last" ]; then said="$cp_last $cp_sum"
        elif [ "$plain_bytes $plain_sum" != "$last_plain $last_plain_sum" ]; then
            fail FRAGMENT_COUNT "The record of $file says that it opens to other bytes than its checkpoints do."
        fi
    fi
    first= end=
    if number first_media_90k; then first=$number; fi
    if number end_media_90k; then end=$number; fi
    all_fragments=$((all_fragments + fragments)) all_frames=$((all_frames + frames))
    [ "${end:-0}" -le "$all_end" ] || all_end=$end
    [ "$state" != torn ] || number unconfirmed_bytes || { cannot_be "it does not say how much more may follow in its file"; return; }
    if [ "$state" = recovered ]; then
        sealed_at_start=1
        number checkpointed_bytes && checkpointed=$number && sum checkpointed_sha256 && checkpointed_sum=$string || { cannot_be "it does not say what was signed of it"; return; }
        [ "$checkpointed $checkpointed_sum" = "$cp_last $cp_sum" ] || fail FRAGMENT_COUNT "The record of $file names another last checkpoint than there is."
        is_true checkpoint_intact || fail CHECKPOINT_HASH "When the camera started again, the signed $checkpointed bytes of $file were no longer what was signed."
        if [ "$bytes" -gt "$checkpointed" ]; then
            behind="The last $((bytes - checkpointed)) bytes of $file lie behind its last checkpoint: the camera signed them only when it started again, as it found them."
            hold="hold $((fragments - count)) whole fragment(s)"
            if is_encrypted; then hold="are encrypted"; fi         # anybody can encrypt to the recipients
            if is_encrypted || [ "$fragments" -gt "$count" ]; then
                warn UNSIGNED_MEDIA "$behind They $hold, and no signature tells whether they are what was being written when power was lost, or what somebody who had the card put there before that start. Ask who had it."
            else note UNSIGNED_BYTES "$behind They hold no whole fragment."; fi
        fi
        [ "${end:-0}" -le "$end_media" ] || end_media=$end
    elif [ "$said $fragments $first $end $frames $audio" != "$cp_last $cp_sum $count $cp_first $cp_end $cp_frames $cp_audio" ]; then
        fail FRAGMENT_COUNT "The record of $file does not say what its checkpoints add up to."
    fi
    echo "$file $bytes $sha256 $state $checkpointed $checkpointed_sum" >> "$work/expected"
}
on_gap() {
    all_gaps=$((all_gaps + 1)) gap_before=1
    number frames || { cannot_be "it does not say how many frames"; return; }
    note GAP "The camera could not keep $number frames and says so."
}
on_close() {
    closed=1
    if is_true recovered; then
        recovered=1
        case $row in *",<init_file>:<"*) init_file ;; esac
        note RECOVERED "The recording was cut off and was sealed as it lay when the camera started again."
    fi
    if is_true triggered; then trigger_journalled=1; fi
    if [ -n "$sealed_at_start" ] && [ -z "$recovered" ]; then fail RECORD_INVALID "The record that closes it hides that it was cut off: a segment says so."; fi
    totals=
    for part in segments fragments frames bytes end_media_90k gaps; do
        number "$part" || { cannot_be "it has no $part"; return; }
        totals="$totals $number"
    done
    [ "$totals" = " $all_segments $all_fragments $all_frames $all_bytes $all_end $all_gaps" ] && [ "$open_files" -eq 0 ] ||
        fail RECORDING_TOTALS "Its closing record does not say what its segment records add up to."
    if [ -z "$recovered" ]; then
        number missed_frames || { cannot_be "it has no missed_frames"; return; }
        if [ "$number" -eq 1 ]; then missed="1 frame is"; else missed="$number frames are"; fi
        [ "$places" -le 5 ] || missing_places="$missing_places, and $((places - 5)) more"
        [ "$number" -eq 0 ] || warn FRAMES_MISSED "$missed missing in its picture${missing_places:+, in the fragments at $missing_places}: the camera or the encoder did not keep up, and says so."
    fi
    [ -n "$recovered" ] || [ "$all_fragments" -gt 0 ] || note RECORDING_EMPTY "It was stopped before anything of it was on flash."
}
while IFS=' ' read -r ordinal seq type row; do
    first_mine=${first_mine:-$ordinal}
    case $type in trigger | recording-open | checkpoint | segment | gap | marker | stop | recording-close) ;; *) continue ;; esac
    if [ -n "$closed" ]; then cannot_be "it follows on the record that closed its recording"; continue; fi
    last_mine=$ordinal
    case $type in
        trigger) on_trigger ;;
        recording-open) on_open ;;
        checkpoint) on_checkpoint ;;
        segment) on_segment ;;
        gap) on_gap ;;
        marker) markers=$((markers + 1)) ;;
        stop) if string reason; then stop_reason=$string; fi ;;
        recording-close) on_close ;;
    esac
done < "$work/mine"
case $mine_device in
    [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) mine_device=unnamed-camera ;;
    *) [ ${#mine_device} -le 64 ] || mine_device=unnamed-camera ;;
esac
if [ -n "$id" ] && [ -n "$first_mine" ] && [ -n "$mine_device" ] && [ "$device" != "$mine_device" ]; then
    fail_of PACKAGE.txt PACKAGE_DEVICE "PACKAGE.txt says that this is of the camera $(printable "$device"); the log is of $mine_device."
fi
if [ -z "$first_mine" ]; then fail PACKAGE_INCOMPLETE "The log does not hold the records of the recording that this package says it is."
else
    [ -n "$triggered" ] || { [ -z "$opened" ] && [ -n "$recovered" ] && [ -z "$trigger_journalled" ]; } || fail PACKAGE_INCOMPLETE "Its records do not begin with its trigger."
    [ -n "$closed" ] || fail RECORDING_UNCLOSED "It is not closed: nothing says where it ends."
fi
if [ "$encrypted_segments" -gt 0 ] || [ -n "$sealed" ]; then
    note NOT_DECRYPTED "$encrypted_segments encrypted segment(s) were checked as they are. What they hold was not looked into; whoever has the evidence system's key can, with: bodycam verify --identity KEY.txt."
fi
while read -r from until; do
    if [ -n "$first_mine" ] && [ "$first_mine" -le "$until" ] && [ "$last_mine" -ge "$from" ]; then
        about=-
        warn SIGNATURE_LATE "Records of it, or between them, still had no signature when the camera was started again. What they say is what the camera found on its card then, which somebody who had the card may have put there. Ask whether the camera's signer failed at that time, and who had it."
        break
    fi
done < "$work/late"
if [ "$pending" -gt 0 ]; then
    about=$pending_from
    if [ "$pending" -eq 1 ]; then warn SIGNATURE_UNCOVERED "The last record has no valid signature, nor a signed record after it."
    else warn SIGNATURE_UNCOVERED "The last $pending records have no valid signature, nor a signed record after them."; fi
    about=-
    if [ "$last_mine" -ge "$pending_from" ]; then fail SIGNATURE_UNCOVERED "No signature covers the recording's records to the end."; fi
fi

# --- The media against the log --------------------------------------------------------------------------------------

where_changed() {           # FILE: the first fragment whose running hash is not the signed one
    [ -f "$work/checkpoints/$1" ] || return
    from=0
    while read -r f b s begin_90k end_90k _; do
        if [ "$(head -c "$b" "$1" | hash)" != "$s" ]; then
            span "$begin_90k" "$end_90k"
            fail CHECKPOINT_HASH "$1 was changed between bytes $from and $b, that is at $span of the recording (fragment $f)."
            return
        fi
        from=$b
    done < "$work/checkpoints/$1"
}
while read -r file bytes sha256 state checkpointed checkpointed_sum; do
    [ "$bytes" -gt 0 ] || [ -f "$work/sum/$file" ] || continue
    code=SEGMENT_HASH gone=SEGMENT_MISSING longer=SEGMENT_SIZE
    if [ "$state" = init ]; then code=INIT_HASH gone=INIT_HASH longer=INIT_HASH; fi
    if [ ! -f "$work/sum/$file" ]; then
        lost_of "$file" 0
        fail "$gone" "$file is gone or not a plain file; $bytes bytes of it were signed$lost."; continue
    fi
    read -r size is < "$work/sum/$file"
    if [ "$size" -ne "$bytes" ]; then
        lost_of "$file" "$size"
        fail "$longer" "$file has $size bytes; its record says $bytes${lost:+: it lacks${lost#,}}."
        # Of a file that was cut short something is missing, too, whatever its bytes are.
        [ "$size" -gt "$bytes" ] || echo "fail SEGMENT_MISSING - - - $file was cut short: it has $size bytes of the $bytes that were signed${lost:+ and lacks${lost#,}}." >> "$work/judged"
        [ "$state" = init ] || [ "$size" -gt "$bytes" ] || continue
        is=$(head -c "$bytes" "$file" | hash)
    fi
    if [ "$is" != "$sha256" ]; then
        [ "$state" = init ] || where_changed "$file"
        fail "$code" "The $bytes bytes of $file are not those that were signed."
    elif [ "$state" = recovered ] && [ "$(head -c "$checkpointed" "$file" | hash)" != "$checkpointed_sum" ]; then where_changed "$file"; fi
done < "$work/expected"
while IFS= read -r name; do
    case $name in
        */* | SHA256SUMS | PACKAGE.txt | README.txt | VERIFY.txt | verify.sh | support.json | support.txt | recording.json) continue ;;
    esac
    # Without a log nothing is named, and that was said.
    if [ "$records" -eq 0 ]; then case $name in init.mp4 | [0-9][0-9][0-9][0-9][0-9][0-9].m4s*) continue ;; esac; fi
    grep -q -e "^$name " "$work/expected" || fail_of "$name" FILE_UNKNOWN "No record names $name: it does not belong here."
done < "$work/present"

# --- What it comes to -----------------------------------------------------------------------------------------------

progress ""
if [ -t 2 ]; then echo >&2; fi
log_failed=                 # the log itself is wrong: then nothing that rests on it can hold
touches() {                 # FROM TO: whether a finding about these records makes less of the recording
    [ "$1" != - ] || return 0
    [ "$2" -ge "${first_mine:-0}" ] && { [ -z "$closed" ] || [ "$1" -le "$last_mine" ]; }
}
is_evidence() {             # CODE, FILE that it is about: whether the video or the log is in it, or certificates
    case $2 in
        - | journal/[0-9][0-9][0-9][0-9][0-9][0-9].journal | device/chain*) ;;
        init.mp4 | [0-9][0-9][0-9][0-9][0-9][0-9].m4s*) [ "$1" = PACKAGE_SUM ] || grep -q -e "^$2 " "$work/expected" ;;
        *) false ;;
    esac
}
telling() {                 # of a code -> $telling: which of several reasons is given, the lower first
    case $1 in
        CHECKPOINT_HASH) telling=1 ;; SEGMENT_HASH) telling=2 ;; INIT_HASH) telling=3 ;; SEGMENT_MISSING) telling=4 ;;
        SIGNATURE_*) telling=5 ;; CERT_UNKNOWN) telling=6 ;; PACKAGE_SUM | FILE_UNKNOWN) telling=8 ;; *) telling=7 ;;
    esac
}
bears() {                   # fail|label|warn, aspect, sentence: a finding that bears on the recording; the most telling is kept
    eval "least=\${least_$1_$2:-9}"     # both words are this script's own
    [ "$telling" -ge "$least" ] || eval "least_$1_$2=\$telling because_$1_$2=\$3"
}
while read -r severity code from to file sentence; do
    case $severity in fail | warn) ;; *) continue ;; esac
    touches "$from" "$to" || continue
    aspect "$code"
    telling "$code"
    # What is no evidence may be wrong without making the evidence so.
    if [ "$aspect-$severity" = integrity-fail ] && ! is_evidence "$code" "$file"; then severity=label; fi
    bears "$severity" "$aspect" "$sentence"
    # Without its certificate no signature can be checked, so nothing is known to be unchanged either.
    [ "$severity-$code" != fail-CERT_UNKNOWN ] || bears fail integrity "$sentence"
    case $severity-$code in fail-JOURNAL_* | fail-SIGNATURE_* | fail-RECORD_INVALID | fail-TORN_*) log_failed=1 ;; esac
done < "$work/judged"
said_of() {                 # fail|label|warn, aspect -> $because, the first of the most telling such findings; or false
    eval "because=\${because_$1_$2:-}"
    [ -n "$because" ]
}
verdict() { printf '%-13s %-8s %s\n' "$1" "$2" "$3"; }
log_wrong="The log itself is not what the camera signed, and this rests on it."
[ "$records" -gt 0 ] || log_wrong="There is no log that can be read, and this rests on it."
echo
printf 'Camera        %s\n' "$(printable "${device_id:-?}")"
while IFS= read -r used; do
    [ -f "$work/certificate/$used" ] || continue
    reign "$used"
    if [ "$judge" = note ]; then ranges="$ranges, none of this recording"; fi
    printf 'Certificate   %s\n' "$(printable "$(openssl x509 -in "$work/certificate/$used" -noout -subject)")"
    printf '              of records %s\n' "$ranges"
    printf '              SHA-256 %s (compare it with what the department says)\n' "$used"
done < "$work/certificates-used"
[ -s "$work/keys" ] || echo '?' > "$work/keys"
while IFS= read -r key; do printf 'Key           %s\n' "$(printable "$key")"; done < "$work/keys"
seconds "$end_media"
printf 'Recording     %s\n' "${id:-?}"
[ -z "$first_mine" ] || printf '              %s s, %s frames, %s bytes of video; opened %s by the camera'"'"'s clock\n' "$seconds" "$all_frames" "$all_bytes" "${opened_utc:-?}"
not_before_moment=unknown existed_by_moment=unknown
if [ -n "$not_before" ]; then as_moment "$not_before"; not_before_moment=$moment; fi
if [ -n "$existed_by" ]; then as_moment "$existed_by"; existed_by_moment=$moment; fi
if [ "$timestamps" -gt 0 ]; then
    checked="by an authority under the root certificate that you gave"
    [ "$tsa" != - ] || checked="by authorities that were NOT checked"
    printf 'Timestamps    written not before %s\n              existed by         %s (%s)\n' "$not_before_moment" "$existed_by_moment" "$checked"
fi
if [ "$records" -eq 0 ]; then printf 'Log           none that can be read\n\n'
else printf 'Log           records %s to %s; SHA-256 of the last: %s\n\n' "$first_seq" "$((expected_seq - 1))" "${head:-?}"; fi

if said_of fail integrity; then verdict INTEGRITY fails "$because"
elif [ "$signed" -eq 0 ]; then verdict INTEGRITY fails "There is no valid signature in it."; refuted=1
elif said_of label integrity; then
    verdict INTEGRITY limited "The video and the log are what the camera signed; the package around them was changed: $because"
elif said_of warn integrity; then verdict INTEGRITY limited "$because"
else verdict INTEGRITY holds "Every record and every byte of video is what the key of the certificate above signed."; fi

if said_of fail origin; then verdict ORIGIN fails "$because"
elif [ -n "$log_failed" ]; then verdict ORIGIN open "$log_wrong"
elif [ "$root" = - ]; then verdict ORIGIN open "No root certificate of the department was given."
elif said_of warn origin; then verdict ORIGIN limited "$because"
else verdict ORIGIN holds "The certificate that signed leads to the root certificate that you gave."; fi

bounds="its records ${not_before:+were written not before $not_before_moment}${not_before:+${existed_by:+ and }}${existed_by:+existed by $existed_by_moment}"
if [ "$pre_event_ms" -gt 0 ]; then
    bounds="$bounds; its first $((pre_event_ms / 1000)).$((pre_event_ms / 100 % 10)) s were captured before the button was pressed (pre-event), by the camera's own account"
fi
claim="the times are the camera's claim (clock: ${clock_source:-?}${clock_uncertainty:+, within $clock_uncertainty ms as it says})"
if said_of fail time; then verdict TIME fails "$because"
elif [ -n "$log_failed" ]; then verdict TIME open "$log_wrong"
elif [ -z "$not_before$existed_by" ] && [ "$tsa" != - ]; then
    verdict TIME open "No timestamp of an authority under the root certificate that you gave (TSA-ROOT.pem) bounds it: $claim."
elif said_of warn time; then verdict TIME limited "$because"
elif [ -z "$not_before$existed_by" ]; then verdict TIME open "No timestamp of an authority bounds it: $claim."
elif [ "$tsa" = - ]; then
    verdict TIME open "No root certificate of the timestamps' authority was given (TSA-ROOT.pem). They say that $bounds."
elif [ -n "$not_before" ] && [ -n "$existed_by" ]; then verdict TIME holds "Timestamps prove that $bounds."
else verdict TIME limited "Timestamps prove that $bounds."; fi

if said_of fail completeness; then verdict COMPLETENESS fails "$because"
elif [ -n "$log_failed" ]; then verdict COMPLETENESS open "$log_wrong"
elif said_of warn completeness; then verdict COMPLETENESS limited "$because"
elif [ -n "$recovered" ]; then verdict COMPLETENESS limited "It was cut off; what was on flash then is all here."
elif [ "$all_gaps" -gt 0 ]; then verdict COMPLETENESS limited "The camera could not keep some frames and says so in $all_gaps place(s); all else is here."
else verdict COMPLETENESS holds "All $fragment fragments from the first to the last are here, and no record is missing between trigger and close."; fi
echo
echo "note  recording.json, support.* and the pages are no evidence and were compared with SHA256SUMS only."
if [ -n "$refuted" ]; then echo "RESULT: this package does NOT verify; what is wrong is marked with fail."; exit 1; fi
echo "RESULT: nothing refutes this package. Read VERIFY.txt for what that proves and what not."
