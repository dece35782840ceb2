"""The page that lies in every evidence package. No times and no versions in it: a package is the same each time."""

from __future__ import annotations

README = """\
EVIDENCE PACKAGE: one recording of a body-worn camera

Camera     {device_id}
Recording  {recording_id}

WHAT IS HERE
{media}  journal/                  a part of the camera's log: one signed record a line
  device/chain.pem          the camera's certificate;  device/root.pem: the root it was enrolled under
                            (chain-....pem: the next one, when the camera was given another meanwhile)
  recording.json            what the recording is, for catalogues; no evidence
  SHA256SUMS                hashes of all other files here

PLAY IT
{play}
What you make goes beside this folder, not into it: nothing should be added to a package.

CHECK IT BY HAND, WITH TOOLS THAT ARE NOT OURS
1. Nothing was changed since it left the camera:
     sha256sum -c SHA256SUMS
2. The camera signed its log. Get the root certificate from the department, as root.pem beside this folder: the one
   in device/ could be anybody's. For any line of a journal file, here the first:
     head -n 1 journal/{first_journal} > ../line
     cut -s -f 1 ../line | tr -d '\\n' > ../record.json;  cut -s -f 2 ../line | base64 -d > ../record.p7s
     openssl cms -verify -binary -inform DER -in ../record.p7s -content ../record.json -nointern \\
         -certfile device/chain.pem -CAfile ../root.pem -no-CApath -out /dev/null
   Each record holds, as "prev", the SHA-256 of the JSON of the one before it. A signature of "-" is covered by the
   next signed record.
3. The video is what was signed: the records of type "segment" name each file with its bytes and SHA-256:
     cut -s -f 1 journal/*.journal | grep '"type":"segment"' | grep {recording_id}
     sha256sum 0*.m4s* init.mp4
     ffprobe -v error -count_packets -show_entries stream=codec_name,nb_read_packets ../recording.mp4
All of it at once, with our verifier:  bodycam verify --root ../root.pem .

WHAT IT PROVES, AND WHAT NOT
The log in here is a part of the camera's: from where the camera was started to the end of this recording. Inside
that part nothing can be missing, added or moved. It does not say what the camera did before or afterwards, and names
other recordings of that time whose files are not here. The times are the camera's claim. The signature says which key
signed, not who wore the camera; "key" in the first record of each journal file says how well that key was kept.
Bytes behind the last checkpoint of a recording that was cut off were signed only when the camera started again.
"""


_MEDIA = "  init.mp4, 000001.m4s ...  the video and sound, as the camera wrote them\n"
_PLAY = (
    "  cat init.mp4 0*.m4s > ../recording.mp4          then open that file with any player, or: ffplay ../recording.mp4"
)
_ENCRYPTED_MEDIA = (
    "  init.mp4, 000001.m4s.age ...  the video and sound, encrypted to the evidence system's key (age-encryption.org)\n"
)
_ENCRYPTED_PLAY = """\
With the evidence system's key in a file KEY.txt, beside this folder:
  (cat init.mp4; for f in 0*.m4s.age; do age -d -i ../KEY.txt "$f"; done) > ../recording.mp4
then open that file with any player, or: ffplay ../recording.mp4. Without the key everything below can be checked but
what is in the video. "unexpected EOF" or "failed to decrypt" of a segment whose record says "torn" or "recovered" is
what a write or power failure leaves; what opens in front of it is good."""


def readme(device_id: str, recording_id: str, first_journal: str, *, encrypted: bool = False) -> bytes:
    """The file's bytes."""
    text = README.format(
        device_id=device_id,
        recording_id=recording_id,
        first_journal=first_journal,
        media=_ENCRYPTED_MEDIA if encrypted else _MEDIA,
        play=_ENCRYPTED_PLAY if encrypted else _PLAY,
    )
    return text.encode()
