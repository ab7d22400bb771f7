"""The port for decoding: bytes of an image file in, pixels out."""

from typing import Protocol

from segdex_core.media.decode import DecodedImage, decode_image


class Decode(Protocol):
    """Decodes image files; ``segdex_core.media.decode.decode_image`` does so in the calling thread."""

    def __call__(self, data: bytes, *, name: str, max_pixels: int) -> DecodedImage:
        """Return the pixels and metadata of an encoded image; see ``decode_image``.

        Raises:
            ImageError: If the file cannot be decoded within the limits.
            DecodersUnavailableError: If there is no process to decode in.
        """
        ...


class Decoder(Decode, Protocol):
    """A ``Decode`` that may hold processes."""

    def close(self) -> None:
        """End the processes. Another call ends nothing more."""
        ...


class LocalDecoder:
    """Decodes in the calling thread, without limits of time and memory: a bad file may end the process."""

    def __call__(self, data: bytes, *, name: str, max_pixels: int) -> DecodedImage:
        """See ``Decode``."""
        return decode_image(data, name=name, max_pixels=max_pixels)

    def close(self) -> None:
        """See ``Decoder``."""
