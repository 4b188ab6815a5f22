"""Converts decoded frames to RGB or RGBA of one size: deinterlacing, square pixels, BT.709 colours.

One ffmpeg filter graph does all of it. It is built for the first frame, and again when the properties of a frame
change. Frames marked as interlaced become progressive (yadif; the number of frames does not change). Untagged YUV is
interpreted as players do: BT.709 for high definition, BT.601 below.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from partnerface_ns.common.errors import InputError, shorten
from partnerface_ns.tracking.video.decode.colour import Conversion, conversion_from_tags
from partnerface_ns.tracking.video.decode.frame import Note
from partnerface_ns.tracking.video.packages import require

_MATRICES = {1: "bt709", 4: "fcc", 5: "bt470", 6: "smpte170m", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
"""ffmpeg's names of the YUV matrices of ITU-T H.273."""
_UNTAGGED = (2, 3)
_FIRST_FIELDS = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""First displayed field, by ffmpeg's number of the field order; otherwise the flags of the frames decide."""
_RANGES = {1: "tv", 2: "pc"}
_SCALING = "bicubic+full_chroma_int"
_MAX_STRETCH = 4
"""Larger aspect ratios of pixels are ignored."""
_SAME_ASPECT = 0.01
"""Relative difference of the aspect ratio up to which frames of another size are scaled to the first size."""


class FrameFilter:
    """Filters the frames of one video, in order."""

    def __init__(self, path: Path, stream: Any, note: Note) -> None:
        """
        Args:
            path: the video, for messages.
            stream: the stream that frames come from.
            note: receives one sentence for each kind of conversion.
        """
        self._av = require("av")
        self._path, self._stream, self._note = path, stream, note
        self._graph: Any = None
        self._built_for: tuple[Any, ...] = ()
        self._size: tuple[int, int] | None = None
        self._noted: set[str] = set()

    def push(self, frame: Any) -> Iterator[Any]:
        """Filter a frame; yields the frames that are ready, which may be earlier ones."""
        properties = self._properties(frame)
        if properties != self._built_for:
            yield from self.flush()
            self._graph, self._built_for = self._require_graph(frame), properties
        self._graph.push(frame)
        yield from self._pull()

    def flush(self) -> Iterator[Any]:
        """Yield the frames that are still in the graph."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
            self._graph, self._built_for = None, ()

    def _pull(self) -> Iterator[Any]:
        while True:
            try:
                yield self._graph.pull()
            except (self._av.BlockingIOError, self._av.EOFError):
                return

    def _properties(self, frame: Any) -> tuple[Any, ...]:
        # A graph that deinterlaces leaves progressive frames unchanged.
        interlaced = bool(frame.interlaced_frame) or (bool(self._built_for) and self._built_for[-1])
        return (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range, interlaced)

    def _require_graph(self, frame: Any) -> Any:
        """Build the graph; an error of ffmpeg becomes an `InputError`."""
        try:
            return self._build(frame)
        except (self._av.FFmpegError, ValueError) as error:
            reason = f"{frame.format.name}: {shorten(error)}"
            raise InputError(self._path, "the frames cannot be converted to RGB", actual=reason) from error

    def _build(self, frame: Any) -> Any:
        width, height, format_name, *_, interlaced = self._properties(frame)
        base = Fraction(frame.time_base or self._stream.time_base)
        graph = self._av.filter.Graph()
        source = {"video_size": f"{width}x{height}", "pix_fmt": format_name, "time_base": f"{base}"}
        nodes = [graph.add("buffer", **source, pixel_aspect="1/1")]
        if interlaced:
            self._note_once("The video is interlaced: it was deinterlaced, one frame for each frame.")
            order = getattr(self._stream.codec_context, "field_order", 0)  # PyAV has it from 18.1 on
            parity = _FIRST_FIELDS.get(order, "auto")
            nodes.append(graph.add("yadif", mode="send_frame", parity=parity, deint="interlaced"))
        codec = self._stream.codec_context
        conversion = conversion_from_tags(codec.color_trc, codec.color_primaries)
        columns, rows = self._output_size(width, height)
        nodes.append(graph.add("scale", w=f"{columns}", h=f"{rows}", flags=_SCALING, **self._yuv(frame, conversion)))
        alpha = any(component.is_alpha for component in frame.format.components) or format_name == "pal8"
        if conversion is not None:
            self._note_once(f"The colours are {conversion.name}: they were converted to BT.709 (standard range).")
            nodes.append(graph.add("format", pix_fmts="gbrap16le" if alpha else "gbrp16le"))
            nodes.append(_table_filter(graph, conversion))
        nodes += [graph.add("format", pix_fmts="rgba" if alpha else "rgb24"), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        return graph

    def _output_size(self, width: int, height: int) -> tuple[int, int]:
        """Columns and rows of the output: those of the first frame, with square pixels."""
        aspect = self._pixel_aspect()
        columns, rows = round(width * max(aspect, 1)), round(height * max(1 / aspect, 1))
        if (columns, rows) != (width, height):
            ratio = f"{aspect.numerator}:{aspect.denominator}"
            self._note_once(f"Pixels are not square ({ratio}): {width} x {height} was stretched to {columns} x {rows}.")
        if self._size is None:
            self._size = (columns, rows)
        elif (columns, rows) != self._size:
            self._require_same_aspect(columns, rows)
            self._note_once(f"The frame size changes within the video: all were scaled to {_sides(self._size)}.")
        return self._size

    def _pixel_aspect(self) -> Fraction:
        aspect = Fraction(self._stream.sample_aspect_ratio or 1)
        if aspect > 0 and Fraction(1, _MAX_STRETCH) <= aspect <= _MAX_STRETCH:
            return aspect
        self._note_once(f"The file says that pixels are {aspect} times as wide as high: this was ignored.")
        return Fraction(1)

    def _require_same_aspect(self, columns: int, rows: int) -> None:
        assert self._size is not None
        if abs(columns * self._size[1] / (rows * self._size[0]) - 1) > _SAME_ASPECT:
            raise InputError(
                self._path,
                "the frame's shape changes within the video",
                expected=_sides(self._size),
                actual=_sides((columns, rows)),
                hint="choose a part with --start and --end, or split the video",
            )

    def _yuv(self, frame: Any, conversion: Conversion | None) -> dict[str, str]:
        """Options of ffmpeg that define a frame's YUV colours; none for RGB."""
        if frame.format.is_rgb or frame.format.name.startswith(("gray", "pal8", "mono", "ya")):
            return {}
        matrix = _MATRICES.get(frame.colorspace)
        if frame.colorspace in _UNTAGGED:
            high_definition = frame.width >= 1280 or frame.height > 576
            matrix = "bt2020" if conversion is not None else "bt709" if high_definition else "smpte170m"
        if matrix is None:
            raise InputError(
                self._path,
                "the colours cannot be converted: the matrix is unknown",
                key="colour matrix",
                expected=", ".join(sorted(set(_MATRICES.values()))),
                actual=f"number {frame.colorspace} of ITU-T H.273",
                hint="convert the video to BT.709 first",
            )
        return {"in_color_matrix": matrix, "in_range": _RANGES.get(frame.color_range, "auto")}

    def _note_once(self, sentence: str) -> None:
        if sentence not in self._noted:
            self._noted.add(sentence)
            self._note(sentence)


def _table_filter(graph: Any, conversion: Conversion) -> Any:
    with TemporaryDirectory() as folder:  # the filter reads the file once, when it is created
        path = Path(folder) / "table.cube"
        path.write_text(conversion.table(), encoding="ascii")
        return graph.add("lut3d", file=str(path), interp="tetrahedral")


def _sides(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
