"""Decodes the pictures of the video files that are named; prints the SHA-256 of each as JSON."""

from __future__ import annotations

import hashlib
import json
import sys

import av


def main() -> None:
    """A list of hashes for each file, in the order in which they were named."""
    hashes = []
    for path in sys.argv[1:]:
        with av.open(path) as container:
            container.streams.video[0].thread_type = "NONE"
            pictures = (frame.to_ndarray() for frame in container.decode(video=0))
            hashes.append([hashlib.sha256(picture.tobytes()).hexdigest() for picture in pictures])
    json.dump(hashes, sys.stdout)


if __name__ == "__main__":
    main()
