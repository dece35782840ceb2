"""One repair of DER that timestamp responses need before the strict parser takes them."""

from __future__ import annotations

_CERTIFICATES = 0xA0  # [0] IMPLICIT in SignedData (RFC 5652 section 5.1)


def with_sorted_certificates(response: bytes) -> bytes:
    """The same TimeStampResp (RFC 3161 section 2.4.2) with the certificates of its token in DER's order.

    OpenSSL, and so every authority built on it, writes that SET in the order of its configuration, and rfc3161-client
    refuses a SET that is not sorted (X.690 section 11.6). The set is outside everything that is signed, and sorting
    changes no length. Bytes that are no such response come back as they are, for the parser to refuse.
    """
    try:
        return _sorted(response)
    except ValueError:
        return response


def _sorted(data: bytes) -> bytes:
    at, end = _content(data, 0, len(data))  # TimeStampResp
    _, at = _content(data, at, end)  # behind its status
    at, end = _content(data, at, end)  # ContentInfo
    _, at = _content(data, at, end)  # behind its type
    at, end = _content(data, at, end)  # [0] EXPLICIT
    at, end = _content(data, at, end)  # SignedData
    while at < end:
        inner, next_at = _content(data, at, end)
        if data[at] == _CERTIFICATES:
            elements = []
            start = inner
            while inner < next_at:
                _, element_end = _content(data, inner, next_at)
                elements.append(data[inner:element_end])
                inner = element_end
            return data[:start] + b"".join(sorted(elements)) + data[next_at:]
        at = next_at
    return data


def _content(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Where the content of the element at `at` begins and ends (X.690 section 8.1). Raises ValueError."""
    if at + 2 > end:
        raise ValueError("It ends in the middle of an element.")
    length, at = data[at + 1], at + 2
    if length & 0x80:
        octets = length & 0x7F
        if not 1 <= octets <= 4 or at + octets > end:
            raise ValueError("An element has no definite length.")
        length, at = int.from_bytes(data[at : at + octets], "big"), at + octets
    if at + length > end:
        raise ValueError("An element is longer than what holds it.")
    return at, at + length
