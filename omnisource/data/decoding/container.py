"""Opening video files, or their bytes, with FFmpeg."""

from __future__ import annotations

import contextlib
import functools
import io

import av
import av.error
from av import library_versions
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard
from av.video.stream import VideoStream

from omnisource.data.decoding.images import MAX_IMAGE_PIXELS, is_empty_file
from omnisource.data.decoding.metadata.masking import MaskedVideo, masked_video
from omnisource.data.decoding.packet_index import first_video_stream
from omnisource.errors import UnreadableMedia

# Formats that name other files or addresses, which FFmpeg would open: play lists, and images by their pattern.
# Source: libavformat of FFmpeg 8, the demuxers that call `io_open` or open a context of their own.
FORMATS_THAT_OPEN_OTHERS = frozenset(
    ("applehttp", "avisynth", "concat", "dash", "hls", "image2", "imf", "lavfi", "rtsp", "sap", "sdp", "vobsub")
)

# Decoders that hand out frames with areas that they could not decode, whose pixels are then those of some earlier
# frame, and say nothing. They are told to raise the error instead.
SILENT_DECODERS = ("hevc", "mjpeg", "vp8")

# Containers that tell all about their streams, by the first of FFmpeg's names: mp4 and mov. And how the names of their
# files end; one that only seems to be such a file is opened twice.
TELLING_CONTAINERS = ("mov",)
TELLING_ENDINGS = (".mp4", ".m4v", ".mov", ".3gp", ".3g2")

# FFmpeg asks Python for bytes in pieces of this size.
READ_BYTES = 2**18


def open_video(path: str, content: bytes | None, trusts_container: bool = False) -> tuple[InputContainer, VideoStream]:
    """Opens a file, or `content` in its place, and its first video stream, for decoding with one thread.

    Args:
        path: The file.
        content: Its bytes, where they do not lie at `path`, which then only names them.
        trusts_container: Lets FFmpeg believe what the container says of the stream, rather than decode some frames
            first. What the decoder gives must then be compared with what the file is known to hold.

    Raises:
        UnreadableMedia: The file is missing, no video, or damaged.
    """
    try:
        return _open_stream(path, content, trusts_container)
    except UnreadableMedia:
        masked = masked_video(path, content)  # the video may be whole where what lies beside it is not
        if masked is None:
            raise
        with contextlib.suppress(UnreadableMedia):
            return _open_stream(path, masked, trusts_container=False)
        raise


def _open_stream(
    path: str, content: bytes | MaskedVideo | None, trusts_container: bool
) -> tuple[InputContainer, VideoStream]:
    believes = trusts_container and path.lower().endswith(TELLING_ENDINGS)
    container = _open(path, content, {"codec_whitelist": "none"} if believes else {})
    if believes and container.format.name.split(",")[0] not in TELLING_CONTAINERS:
        container.close()
        container = _open(path, content, {})
    stream = first_video_stream(container)
    if stream is None or stream.codec_context is None:
        kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        container.close()
        raise UnreadableMedia(
            path, f"it holds no video, only {kinds}" if stream is None else "there is no decoder for its video codec"
        )
    if stream.width * stream.height > MAX_IMAGE_PIXELS:
        container.close()
        size = f"{stream.width}x{stream.height}"
        raise UnreadableMedia(path, f"its frames are of {size} pixels, more than the {MAX_IMAGE_PIXELS} allowed")
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.options = {"max_pixels": str(MAX_IMAGE_PIXELS)}  # the size may still change
    if stream.codec_context.codec.canonical_name in SILENT_DECODERS:
        stream.codec_context.options |= {"err_detect": "explode"}
    stream.codec_context.thread_count = 1  # short reads do not gain from more, and workers share the cores
    return container, stream


def decoder_versions() -> str:
    """Returns FFmpeg's libraries that read files, decode, and convert to RGB, with their versions."""
    libraries = ("libavformat", "libavcodec", "libswscale")
    return ", ".join(f"{name} {'.'.join(map(str, library_versions[name]))}" for name in libraries)


def reason_of(error: FFmpegError) -> str:
    """Returns what FFmpeg says was wrong."""
    return f"FFmpeg: {error.strerror}"


def _open(path: str, content: bytes | MaskedVideo | None, further_options: dict[str, str]) -> InputContainer:
    # As a "file:", so that a name with a colon is not taken for a network address.
    name = f"file:{path}"
    options = {"protocol_whitelist": "file", "format_whitelist": _single_file_formats(), **further_options}
    try:
        if content is None:
            return av.open(name, options=options, metadata_errors="replace")
        stream = content if isinstance(content, MaskedVideo) else _NamedBytes(content)  # shares the bytes
        stream.name = name  # of whose end FFmpeg guesses the format, as of a file's
        return av.open(stream, "r", options=options, metadata_errors="replace", buffer_size=READ_BYTES)
    except av.error.FileNotFoundError as error:
        raise UnreadableMedia(path, "no such file") from error
    except av.error.PermissionError as error:
        raise UnreadableMedia(path, f"cannot be read: {error.strerror}") from error
    except av.error.IsADirectoryError as error:
        raise UnreadableMedia(path, "a folder, not a file") from error
    except FFmpegError as error:
        is_empty = is_empty_file(path) if content is None else not content
        reason = "the file is empty" if is_empty else f"not a video, or damaged ({reason_of(error)})"
        raise UnreadableMedia(path, reason) from error


class _NamedBytes(io.BytesIO):
    name: str


@functools.cache
def _single_file_formats() -> str:
    return ",".join(sorted(av.formats_available - FORMATS_THAT_OPEN_OTHERS))
