"""Stands for kms++, which Debian lacks: picamera2 wants these names when it is imported, for a preview on a screen."""


class PixelFormat:
    """None of them is ever shown."""

    RGB888 = BGR888 = XRGB8888 = XBGR8888 = ABGR8888 = YUV420 = YVU420 = NV12 = None
